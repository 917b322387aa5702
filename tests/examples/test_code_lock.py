"""The door with a code lock, on a clock that jumps."""

import pytest

from examples.code_lock import main
from tests.virtual_clock import run_on_virtual_clock


def test_the_door_is_locked_and_open_when_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run_on_virtual_clock(main)
    assert capsys.readouterr().out.splitlines() == [
        "pressed 12, and 6 s later, at 6 s, it is locked",
        "pressed 3, and 6 s later, at 12 s, it is locked",
        "pressed 123, and 1 s later, at 13 s, it is open",
        # Pressed while it was open, so it has opened again.
        "pressed 123, and 10 s later, at 23 s, it is open",
        "pressed nothing, and 10 s later, at 33 s, it is locked",
    ]
