"""Write docs/contents.md, the list of all pages, from the navigation of the site.

Run it with `python -m docs.site.contents` after a change of the navigation. The site has the navigation itself. The
list is for people who read the pages in the clone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "contents.md"
_HEAD = "# All pages\n\nThese are all pages of the documentation, in the order of the site's navigation.\n"


def page() -> str:
    """Return the text of the page."""
    settings = tomllib.loads((DOCS / "site" / "zensical.toml").read_text())
    lines = [line for entry in settings["project"]["nav"] for line in _lines(entry, 0)]
    return "\n".join([_HEAD, *lines, ""])


def _lines(entry: dict[str, Any], depth: int) -> Iterator[str]:
    for title, to in entry.items():
        if isinstance(to, str):
            if to != PAGE.name:
                yield f"{'  ' * depth}- [{title}]({to})"
        else:
            yield f"{'  ' * depth}- {title}"
            for each in to:
                yield from _lines(each, depth + 1)


if __name__ == "__main__":
    PAGE.write_text(page())
