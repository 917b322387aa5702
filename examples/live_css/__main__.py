"""Serve a folder and watch its style sheets: `python -m examples.live_css FOLDER --port 4000`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from channels.cli.serve import serve_endpoint

from .server import EXAMPLE_PAGE, endpoint_for

parser = argparse.ArgumentParser(description="Serve a folder with live reload of CSS.")
parser.add_argument("folder", type=Path, nargs="?", default=EXAMPLE_PAGE)
parser.add_argument("--port", type=int, default=4000, help="0 takes any free one")
arguments = parser.parse_args()
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
serve_endpoint(
    endpoint_for(arguments.folder.resolve()),
    port=arguments.port,
    on_started=lambda url: print(f"Serving on {url} (Ctrl-C stops it)", flush=True),
)
