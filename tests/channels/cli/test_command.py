"""The command `ashtree` itself."""

from __future__ import annotations

import sys

import pytest

from channels.cli.command import make_app
from channels.cli.console import run_app
from channels.cli.program import load_endpoint


def output_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[object, str, str]:
    """Return the exit code, the output and the error output of a command."""
    monkeypatch.setattr(sys, "argv", ["ashtree", *arguments])
    with pytest.raises(SystemExit) as left:
        run_app(make_app())
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


def test_ashtree_alone_lists_each_command_with_a_whole_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, printed, errors = output_of(monkeypatch, capsys)
    commands = printed.partition("Commands:\n")[2].splitlines()
    assert (code, errors) == (0, "")
    assert {line.split()[0] for line in commands} >= {"serve", "new", "gen", "simulate", "chaos"}
    assert [line for line in commands if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize(
    ("target", "instead"),
    [
        ("m01.py:app", "m01:app"),
        ("./games/m01.py:app", "games.m01:app"),
        ("m01.py", "m01:endpoint"),
    ],
)
def test_a_file_in_place_of_a_module_is_refused_with_the_name_to_write(
    target: str,
    instead: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, errors = output_of(monkeypatch, capsys, "serve", target)
    assert (code, f"is the name of a file; write {instead}" in errors) == (2, True)


def test_a_module_that_ends_the_program_with_a_sentence_shows_the_sentence_alone(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makepyfile(leaving="raise SystemExit('set SECRET first')")
    with pytest.raises(SystemExit):
        load_endpoint("leaving:endpoint")
    assert capsys.readouterr().err == "leaving cannot be imported: set SECRET first\n"
