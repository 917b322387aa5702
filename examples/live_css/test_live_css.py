"""Tests of the watcher, and of the broadcast of a change to the pages."""

from __future__ import annotations

from pathlib import Path

import trio

from channels.pytest_plugin import OpenChannelTest

from .server import endpoint_for
from .watching import changed, stamps


def test_new_and_different_style_sheets_have_changed_and_others_have_not() -> None:
    before = {"/a.css": (1, 10), "/b.css": (1, 10), "/gone.css": (1, 10)}
    now = {"/a.css": (1, 10), "/b.css": (2, 10), "/new.css": (1, 10)}
    assert changed(before, now) == ["/b.css", "/new.css"]


def test_only_style_sheets_count_also_in_subfolders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.css", "deep/b.css", "page.html"):
        (tmp_path / name).write_text("x")
    assert list(stamps(tmp_path)) == ["/a.css", "/deep/b.css"]


async def test_a_saved_style_sheet_reaches_all_pages_once(
    channel_test: OpenChannelTest, tmp_path: Path
) -> None:
    theme = tmp_path / "theme.css"
    theme.write_text("a {}")
    case = await channel_test(endpoint_for(tmp_path))
    pages = []
    for _ in range(2):
        client = await case.connect("/live/socket")
        _, channel = await client.subscribe_and_join("assets")
        pages.append(channel)
    await trio.sleep(1)  # so that the watcher reads the folder before the change
    theme.write_text("a { color: red }")
    for channel in pages:
        await channel.assert_push("css_changed", {"path": "/theme.css"}, timeout=1)
        await channel.refute_push("css_changed", timeout=1)
