"""The command `ashtree`, and the function `run_endpoint` for programs that serve one endpoint."""

from channels.cli.command import main
from channels.cli.serve import run_endpoint, serve_endpoint

__all__ = ["main", "run_endpoint", "serve_endpoint"]
