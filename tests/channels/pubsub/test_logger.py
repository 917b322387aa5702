"""Log lines of PubSub: the first of a kind at once, and no more than one in a minute after it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import Runtime
from channels.pubsub import logger
from channels.telemetry import PUBSUB_CONNECTED, PUBSUB_DISCONNECTED, PUBSUB_DROPPED


class Log:
    """The log of one PubSub."""

    def __init__(self, runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "channels.pubsub")
        self._telemetry = runtime.telemetry
        self._caplog = caplog
        self.detach = logger.attach(runtime.telemetry, self)

    def down(self, problem: str, connection: str = "publish") -> None:
        about = {"connection": connection, "server": "redis://db:6379/0", "problem": problem}
        self.execute(PUBSUB_DISCONNECTED, {"delay": 1.0}, about)

    def up(self, connection: str = "publish") -> None:
        about = {"connection": connection, "server": "redis://db:6379/0"}
        self.execute(PUBSUB_CONNECTED, {"attempts": 1}, about)

    def execute(self, event: Any, measurements: Any, about: Any) -> None:
        self._telemetry.execute(event, measurements, {"pubsub": self, **about})

    def lines(self) -> list[str]:
        found = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return found


@pytest.fixture
def log(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> Log:
    return Log(runtime, caplog)


async def test_a_loss_and_a_return_are_logged(log: Log) -> None:
    log.down("the server closed the connection")
    log.up()
    [lost, back] = log.lines()
    assert "publish is not connected to redis://db:6379/0: the server closed" in lost
    assert "the next attempt is in 1.0 s" in lost
    assert back == "Connection publish is connected to redis://db:6379/0"


async def test_an_outage_is_logged_once_a_minute(log: Log) -> None:
    for _ in range(150):
        log.down("refused")
        await trio.sleep(1.0)
    assert len(log.lines()) == 3


async def test_another_problem_is_logged_at_once(log: Log) -> None:
    for problem in ("closed", "refused", "refused", "wrong password"):
        log.down(problem)
    assert len(log.lines()) == 3


async def test_each_connection_has_its_own_lines(log: Log) -> None:
    for connection in ("publish", "subscribe", "publish"):
        log.down("refused", connection)
    assert len(log.lines()) == 2


async def test_a_new_outage_is_logged_at_once(log: Log) -> None:
    log.down("refused")
    log.up()
    log.down("refused")
    assert len(log.lines()) == 3


async def test_drops_are_summed_up_in_one_line_a_minute(log: Log) -> None:
    for _ in range(100):
        log.execute(PUBSUB_DROPPED, {"count": 3}, {"problem": "too much waits"})
        await trio.sleep(1.0)
    first, second = log.lines()
    assert "Dropped 3 messages" in first
    assert "Dropped 180 messages" in second


async def test_events_of_another_pubsub_are_not_logged(log: Log, runtime: Runtime) -> None:
    about = {"pubsub": object(), "connection": "publish", "server": "s"}
    runtime.telemetry.execute(PUBSUB_CONNECTED, {"attempts": 1}, about)
    assert log.lines() == []
    log.detach()
    log.up()
    assert log.lines() == []
