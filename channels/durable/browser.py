"""The folder with the JavaScript for pages that use phoenix.js with durable topics."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["JAVASCRIPT"]

JAVASCRIPT: Final = Path(__file__).parent / "static"
"""The folder of `durable.mjs`, for `Endpoint(static={"/": "page", "/ashtree": JAVASCRIPT})`. A page then imports it:

    import { durable, pushUntilAnswered } from "/ashtree/durable.mjs"

For a bundler, the command `ashtree gen durable FOLDER` writes the file into a folder.
"""
