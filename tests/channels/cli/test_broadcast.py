"""`ashtree broadcast`: one sentence for a mistake. tests/integration/test_publishing.py has the rest."""

from __future__ import annotations

import io
import sys

import pytest

from channels.cli import command as cli

NOBODY = ["--url", "redis://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["news", "told", "{n:1}", *NOBODY], "the payload is not JSON", 2),
        (["news", "told", '{"n": NaN}', *NOBODY], "the payload is not JSON", 2),
        (["news", "told", '{"n": 1e999}', *NOBODY], "the payload is not JSON", 2),
        (["news", "told", "{}", "--url", "redis://a..b"], "the name of the host is invalid", 1),
        (["news", "told", "[1]", *NOBODY], "not a JSON object", 2),
        (["news", "phx_reply", "{}", *NOBODY], "another name", 2),
        (["news", "told", "{}"], "--url", 2),
        (["news", "told", "{}", "--url-env", "NOWHERE"], "NOWHERE is not set", 2),
        (["news", "told", "{}", "--url", "http://:secret@127.0.0.1"], "cannot be used", 1),
        (["news", "told", "{}", *NOBODY], "was not published", 1),
        (["news", "told", "-", *NOBODY], "was not published", 1),
    ],
    ids=[
        "no JSON",
        "no number",
        "a number that is too large",
        "no host",
        "no object",
        "a reserved event",
        "no URL",
        "no variable",
        "http",
        "no server",
        "standard input",
    ],
)
def test_the_command_says_in_one_sentence_what_is_wrong(
    arguments: list[str],
    said: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["ashtree", "broadcast", *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"a": 1}'))
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert "secret" not in err
