"""A machine at rest for every live run of this folder, so that the tests do not depend on the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervision.laboratory.chaos.live import service


@pytest.fixture(autouse=True)
def machine_at_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service, "TASKS", tmp_path / "no-threads")
    monkeypatch.setattr(service, "load_per_core", lambda: 0.0)
