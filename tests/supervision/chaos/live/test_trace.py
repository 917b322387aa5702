from collections import Counter

import msgspec
import pytest
import trio

from actors import open_runtime, receive, send, spawn
from supervision.chaos.live.trace import LiveTrace
from supervision.recording.recorder import Recorder
from tests.supervision.workers import settle


def decoded(trace: LiveTrace) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in trace.lines]


@pytest.mark.parametrize("as_text", [False, True])
def test_of_too_many_messages_only_the_number_is_kept(as_text: bool) -> None:
    trace = LiveTrace(lambda: 1.5, max_messages=2)

    def send(to: int) -> int:
        if as_text:
            return trace.add_text("sent", f'"pid":null,"to":{to}')
        return trace.add("sent", {"pid": None, "to": to})

    numbers = [send(each) for each in range(4)]
    numbers.append(trace.add("exited", {"pid": 1}))
    trace.finish()
    assert numbers == [0, 1, 2, 3, 4]
    assert [(event["n"], event["kind"], event["t"]) for event in decoded(trace)] == [
        (0, "sent", 1.5),
        (1, "sent", 1.5),
        (4, "exited", 1.5),
        (5, "omitted", 1.5),
    ]
    assert decoded(trace)[-1]["omitted"] == 2


def test_events_of_every_kind_have_a_bound() -> None:
    trace = LiveTrace(lambda: 0.0, max_events=3)
    for _ in range(10):
        trace.add("exited", {"pid": 1})
    assert len(trace.lines) == 3
    assert trace.omitted == 7


async def test_what_a_recorder_writes_has_these_bounds() -> None:
    trace = LiveTrace(trio.current_time, max_messages=10)
    async with open_runtime(log=False) as runtime:
        Recorder(runtime, trace, 0, messages=True)
        pid = spawn(_take_all)
        for number in range(100):
            send(pid, number)
        await settle()
    kinds = Counter(event["kind"] for event in decoded(trace))
    assert kinds["sent"] + kinds["received"] == 10
    assert trace.omitted == 190


async def _take_all() -> None:
    while True:
        await receive()


def test_a_trace_that_has_everything_does_not_say_that_something_is_missing() -> None:
    trace = LiveTrace(lambda: 0.0)
    trace.add("exited", {"pid": 1})
    trace.finish()
    assert [event["kind"] for event in decoded(trace)] == ["exited"]
