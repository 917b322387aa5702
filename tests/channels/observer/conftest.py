"""An endpoint with an observer and an open page, in one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from channels.observer import Observer
from tests.channels.observer.pages import Observe, Page, endpoint_with, open_page


@pytest.fixture
def phoenix_js(tmp_path: Path) -> Path:
    file = tmp_path / "phoenix.mjs"
    file.write_text("export class Socket {}")
    return file


@pytest.fixture
def observe(channel_test: Any, phoenix_js: Path) -> Observe:
    """Start an endpoint with an observer of these options, and open its page."""

    async def start(**options: Any) -> Page:
        observer = Observer(phoenix_js=phoenix_js, **options)
        return await open_page(await channel_test(endpoint_with(observer)), observer)

    return start
