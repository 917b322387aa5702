"""`ashtree token`: its output, the sources of the secret, and one sentence for a mistake."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest
import typer

from channels import Atom, sign, verify
from channels.cli import command as cli

Run = Callable[..., tuple[int, str, str]]

SECRET = "a secret of more than twenty bytes"
SALT = ["--salt", "user auth"]
KEYED = [*SALT, "--secret-env", "THE_SECRET"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command, and return its exit code, its standard output and its standard error."""
    monkeypatch.setenv("THE_SECRET", SECRET)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ashtree", "token", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return code, out, err

    return call


def test_what_is_signed_can_be_verified(run: Run) -> None:
    code, token, err = run("sign", '{"id": 7, "name": "Zoë"}', *KEYED)
    assert (code, err) == (0, "")
    assert verify(SECRET, "user auth", token.strip()) == {"id": 7, "name": "Zoë"}
    assert run("verify", token.strip(), *KEYED) == (0, '{"id": 7, "name": "Zoë"}\n', "")


def test_what_json_has_no_form_for_is_shown_as_python_writes_it(run: Run) -> None:
    token = sign(SECRET, "user auth", {"raw": b"\xff", "kind": Atom("ok")})
    assert run("verify", token, *KEYED)[1] == "{'kind': Atom('ok'), 'raw': b'\\xff'}\n"


def test_the_age_can_be_chosen_on_both_sides(run: Run) -> None:
    token = run("sign", "7", *KEYED, "--max-age", "inf")[1].strip()
    assert verify(SECRET, "user auth", token, now=2**40) == 7
    code, out, err = run("verify", token, *KEYED, "--max-age", "0")
    assert (code, out) == (1, "")
    assert err.startswith("the token has expired")
    assert err.count("\n") == 1


def test_any_of_several_secrets_verifies(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_NEW_SECRET", "a newer one of more than twenty bytes")
    token = sign(SECRET, "user auth", 7)
    both = [*SALT, "--secret-env", "THE_NEW_SECRET", "--secret-env", "THE_SECRET"]
    assert run("verify", token, *both) == (0, "7\n", "")
    assert run("verify", token, *both[:-2])[0] == 1


def test_the_secret_is_asked_for_without_being_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def prompt(text: str, **options: object) -> str:
        asked.append((text, options))
        return SECRET

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(typer, "prompt", prompt)
    token = run("sign", "7", *SALT)[1].strip()
    assert verify(SECRET, "user auth", token) == 7
    assert asked == [("Secret", {"hide_input": True, "err": True})]


def test_the_secret_can_come_through_a_pipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SECRET}\n"))
    assert verify(SECRET, "user auth", run("sign", "7", *SALT)[1].strip()) == 7


@pytest.mark.parametrize(
    ("arguments", "expected", "part"),
    [
        (["sign", "ann", *KEYED], 2, "DATA is not JSON"),
        (["sign", "[" * 100_000, *KEYED], 2, "DATA is not JSON"),
        (["sign", "7"], 2, "--salt"),
        (["sign", "7", *SALT, "--secret-env", "NO_SUCH"], 2, "variable NO_SUCH is not set"),
        (["sign", "7", *SALT, "--secret-env", "SHORT"], 1, "only 5 bytes"),
        (["sign", "7", *SALT], 1, "standard input has no secret"),
        (["sign", "7", *KEYED, "--max-age", "-1"], 2, "--max-age"),
        (["verify", "7", *KEYED, "--max-age", "-1"], 2, "--max-age"),
        (["sign", "7", *KEYED, "--max-age", "nan"], 2, "--max-age"),
        (["sign", "7", *KEYED, "--secret", SECRET], 2, "--secret"),
        (["sign", "NaN", *KEYED], 1, "no term for the float nan"),
        (["verify", "abc", *KEYED], 1, "the token is not valid"),
        (["verify", "abc", *SALT, "--secret-env", "SHORT"], 1, "only 5 bytes"),
    ],
)
def test_a_mistake_is_one_sentence_that_does_not_show_the_secret(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: int, part: str
) -> None:
    monkeypatch.setenv("SHORT", "hush!")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    code, out, err = run(*arguments)
    assert (code, out) == (expected, "")
    assert part in err
    assert err.count("\n") == 1
    assert "hush!" not in err
    assert SECRET not in err
