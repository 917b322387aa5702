"""Serve a folder and watch its style sheets: `python -m examples.live_css FOLDER --port 4000`."""

from __future__ import annotations

import argparse
from pathlib import Path

from examples.programs import run_program
from supervision import process_spec

from .server import EXAMPLE_PAGE, endpoint_for
from .watching import watch

parser = argparse.ArgumentParser(description="Serve a folder with live reload of CSS.")
parser.add_argument("folder", type=Path, nargs="?", default=EXAMPLE_PAGE)
parser.add_argument("--port", type=int, default=4000, help="0 takes any free one")
arguments = parser.parse_args()
folder = arguments.folder.resolve()
endpoint = endpoint_for(folder)


def tell(path: str) -> None:
    """Tell all pages that the style sheet with this URL path has changed."""
    endpoint.broadcast("assets", "css_changed", {"path": path})


run_program(endpoint, after=[process_spec(watch, folder, tell)], port=arguments.port)
