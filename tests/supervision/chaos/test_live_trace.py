import msgspec

from supervision.chaos.live_trace import LiveTrace


def decoded(trace: LiveTrace) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in trace.lines]


def test_of_too_many_messages_only_the_number_is_kept() -> None:
    trace = LiveTrace(lambda: 1.5, max_messages=2)
    numbers = [trace.add("sent", {"pid": None, "to": each}) for each in range(4)]
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


def test_a_trace_that_has_everything_does_not_say_that_something_is_missing() -> None:
    trace = LiveTrace(lambda: 0.0)
    trace.add("exited", {"pid": 1})
    trace.finish()
    assert [event["kind"] for event in decoded(trace)] == ["exited"]
