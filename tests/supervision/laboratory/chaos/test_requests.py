"""The log of the clients' requests."""

from __future__ import annotations

import msgspec
import pytest
import trio

from supervision.laboratory.chaos.requests import RequestLog
from supervision.recording.trace import BoundedTrace


def a_log() -> tuple[RequestLog, BoundedTrace]:
    trace = BoundedTrace(trio.current_time)
    return RequestLog(trace, trio.current_time, within=1.0), trace


def statuses(log: RequestLog) -> list[tuple[str, float]]:
    return [(request.status, request.seconds) for request in log.ended]


async def test_a_block_without_an_exception_is_an_answer() -> None:
    log, trace = a_log()
    with log.begin("say", 7, None):
        await trio.sleep(2)
    assert statuses(log) == [("answered", 2.0)]
    event = msgspec.json.decode(trace.lines[0])
    assert (event["name"], event["client"], event["within"]) == ("say", "7", 1.0)


async def test_a_block_with_an_exception_or_a_timeout_is_no_answer() -> None:
    log, _ = a_log()
    with pytest.raises(OSError, match="lost"), log.begin("say", None, None):
        raise OSError("lost")
    with trio.move_on_after(3), log.begin("say", None, None):
        await trio.sleep_forever()
    assert statuses(log) == [("unanswered", 0.0), ("unanswered", 3.0)]


async def test_only_the_first_end_of_a_request_counts() -> None:
    log, _ = a_log()
    request = log.begin("say", None, None)
    request.unanswered()
    request.answered()
    assert statuses(log) == [("unanswered", 0.0)]


async def test_the_end_of_the_experiment_ends_open_requests() -> None:
    log, _ = a_log()
    request = log.begin("say", None, 0.2)
    await trio.sleep(1)
    log.close()
    request.answered()
    log.begin("say", None, None).answered()
    assert statuses(log) == [("open", 1.0)]
