"""Named events and their listeners."""

import sys
from typing import Any

import pytest

from actors import ProcessKilled, Telemetry, exit

EVENT = ("tests", "something", "happened")


def test_an_event_reaches_its_listeners_in_order_until_they_detach() -> None:
    telemetry = Telemetry()
    heard: list[Any] = []
    detach = telemetry.attach(EVENT, lambda *event: heard.append(("first", *event)))
    telemetry.attach(EVENT, lambda *event: heard.append(("second", *event)))
    telemetry.attach(("tests", "other"), lambda *event: heard.append("other"))
    telemetry.execute(EVENT, {"count": 1}, {"of": "it"})
    assert heard == [
        ("first", EVENT, {"count": 1}, {"of": "it"}),
        ("second", EVENT, {"count": 1}, {"of": "it"}),
    ]
    heard.clear()
    detach()
    detach()
    telemetry.execute(EVENT, {}, {})
    assert [each[0] for each in heard] == ["second"]


def test_handlers_returns_the_listeners_of_an_event() -> None:
    telemetry = Telemetry()
    assert telemetry.handlers(EVENT) == ()
    detach = telemetry.attach(EVENT, print)
    assert telemetry.handlers(EVENT) == (print,)
    detach()
    assert telemetry.handlers(EVENT) == ()


def test_a_look_up_of_handlers_runs_no_python_code() -> None:
    telemetry = Telemetry()
    entered = []
    sys.setprofile(lambda frame, event, _: entered.append(frame) if event == "call" else None)
    try:
        telemetry.handlers(EVENT)
    finally:
        sys.setprofile(None)
    assert entered == []


@pytest.mark.parametrize("what", ["error", "exit", "killed"])
def test_a_handler_that_raises_is_detached_and_logged_and_the_others_run(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry, heard = Telemetry(), []

    def broken(*_: Any) -> None:
        if what == "error":
            raise ValueError("of the listener")
        if what == "killed":
            raise ProcessKilled("any")
        exit("any")

    telemetry.attach(EVENT, broken)
    telemetry.attach(EVENT, lambda *event: heard.append(event))
    telemetry.execute(EVENT, {}, {})
    telemetry.execute(EVENT, {}, {})
    assert len(heard) == 2
    assert len(caplog.records) == 1
    assert "broken" in caplog.text


def test_ctrl_c_in_a_listener_does_not_detach_it() -> None:
    telemetry = Telemetry()

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    telemetry.attach(EVENT, interrupted)
    with pytest.raises(KeyboardInterrupt):
        telemetry.execute(EVENT, {}, {})
