"""The command `ashtree`, and the function `run_endpoint` for programs that serve one endpoint."""

from typing import TYPE_CHECKING

from actors.lazy import load_on_use

if TYPE_CHECKING:
    from channels.cli.command import main
    from channels.cli.serve import run_endpoint, serve_endpoint
else:
    __getattr__ = load_on_use(__name__, "channels.cli.command", "channels.cli.serve")

__all__ = ["main", "run_endpoint", "serve_endpoint"]
