"""The command `ashtree gen types`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from channels.cli.console import new_app, run_app
from channels.cli.gen_types import types_command
from channels.publishing.http import HttpPublish
from tests.channels.generators import typed_chat

TARGET = "tests.channels.generators.typed_chat:endpoint"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Return the exit code."""
    monkeypatch.setattr(sys, "argv", ["ashtree", "gen", "types", *arguments])
    app, gen = new_app(), new_app()
    gen.command("types")(types_command)
    app.add_typer(gen, name="gen")
    with pytest.raises(SystemExit) as left:
        run_app(app)
    assert isinstance(left.value.code, int)
    return left.value.code


def test_types_are_written_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, TARGET) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"// Types of {TARGET} for phoenix.js.")
    assert "export interface RoomChannel {" in printed


def test_a_document_is_written_to_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "a new folder" / "asyncapi.json"
    assert run(monkeypatch, TARGET, "--asyncapi", "--output", str(file)) == 0
    assert json.loads(file.read_text())["info"]["title"] == TARGET
    assert capsys.readouterr().out == f"Wrote {file}\n"


def test_a_file_that_cannot_be_written_is_a_mistake_of_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert run(monkeypatch, TARGET, "--output", str(tmp_path / "file" / "types.ts")) == 2
    assert "cannot write" in capsys.readouterr().err


def test_requests_are_written_for_an_endpoint_that_publishes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, TARGET, "--openapi") == 1
    assert f"{TARGET} has no publish=HttpPublish(...)" in capsys.readouterr().err
    publish = HttpPublish(token="a-token-for-the-tests", path="/say", max_batch=7)
    monkeypatch.setattr(typed_chat.endpoint, "publish", publish)
    assert run(monkeypatch, TARGET, "--openapi") == 0
    paths = json.loads(capsys.readouterr().out)["paths"]
    assert {"/say", "/say/{topic}/{event}"} <= set(paths)
    assert run(monkeypatch, TARGET, "--openapi", "--asyncapi") == 2
    assert "either --asyncapi or --openapi" in capsys.readouterr().err
