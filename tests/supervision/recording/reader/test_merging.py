"""Recordings of several processes in one order, which only the ids in their events decide."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import measure
from supervision.recording.reader.merging import UnrelatedRecordings, merge
from supervision.recording.schema import problem_of


def recording(
    *events: dict[str, Any],
    began: float = 0.0,
    name: str = "a",
    incarnation: str = "1",
    **about: Any,
) -> list[bytes]:
    """Return the lines of a file: its first event, the name of its node, and some more events."""
    head = {"kind": "recording", "why": "continuous", "began": began, "seconds": 0.0}
    head |= {"contents": False, "receives": False, "t": 0.0, **about}
    start = {
        "kind": "node_named",
        "name": name,
        "incarnation": incarnation,
        "leaves": f"{name} {incarnation}",
        "t": 0.0,
    }
    lines = []
    for n, event in enumerate((head, start, *events)):
        line = {"n": n, "round": 0, "task": 0, "pid": None, **event}
        assert problem_of(line, after=n - 1) is None
        lines.append(msgspec.json.encode(line))
    return lines


def note(text: str, t: float, **ids: str) -> dict[str, Any]:
    return {"kind": "note", "text": text, "t": t, **ids}


def spawned(t: float, pid: int = 1) -> dict[str, Any]:
    place = {"path": "/top", "role": "/top", "inc": 1, "parent": 0}
    return {"kind": "spawned", "pid": pid, "t": t, **place}


def shutdown(t: float) -> dict[str, Any]:
    """The order of the runtime to its first process to end."""
    about = {"reason": "", "exit": "shutdown", "linked": False}
    return {"kind": "signal", "pid": 0, "to": 1, "t": t, **about}


def decoded(lines: list[bytes]) -> list[dict[str, Any]]:
    found = [msgspec.json.decode(line) for line in lines]
    for number, event in enumerate(found):
        assert problem_of(event, after=number - 1) is None
        assert event["n"] == number
    return found


def texts(lines: list[bytes]) -> list[str]:
    return [each["text"] for each in decoded(lines) if each["kind"] == "note"]


def test_a_receipt_comes_after_its_sending_although_the_clocks_say_the_opposite() -> None:
    # The clock of b is an hour behind, and the times of the two files begin at different moments.
    one = recording(
        note("before", 5.0), note("sent", 7.0, leaves="m 1"), note("later", 9.0), began=7200.0
    )
    other = recording(
        note("received", 1.0, arrives="m 1"), note("answered", 1.5), name="b", began=3600.0
    )
    found = texts(merge({"one": one, "other": other}))
    assert found.index("before") < found.index("sent") < found.index("received")
    assert found.index("received") < found.index("answered")


def test_messages_in_both_directions_bound_the_times_of_a_file() -> None:
    one = recording(note("asked", 5.0, leaves="q"), note("heard", 5.4, arrives="a"))
    other = recording(
        note("got", 100.0, arrives="q"), note("answered", 100.2, leaves="a"), name="b"
    )
    lines = merge({"one": one, "other": other})
    times = [each["t"] for each in decoded(lines) if each["kind"] == "note"]
    # b had the question for 0.2 of the 0.4 seconds, so each way took between 0 and 0.2 seconds.
    assert texts(lines) == ["asked", "got", "answered", "heard"]
    assert [each - times[0] for each in times] == pytest.approx([0.0, 0.1, 0.3, 0.4])
    assert decoded(lines)[0]["merged"]["b"]["within"] == pytest.approx(0.1)


def test_the_events_keep_their_causes_and_get_the_name_of_their_node() -> None:
    one = recording(spawned(1.0), {**note("sent", 2.0, leaves="m"), "cause": 2})
    other = recording(
        note("received", 1.0, arrives="m"), {**note("handled", 1.1), "cause": 2}, name="b"
    )
    found = {
        each.get("text", each["kind"]): each for each in decoded(merge({"1": one, "2": other}))
    }
    assert found["received"]["cause"] == found["sent"]["n"]
    assert found["handled"]["cause"] == found["received"]["n"]
    assert found["sent"]["cause"] == found["spawned"]["n"]
    assert (found["sent"]["node"], found["handled"]["node"]) == ("a", "b")


def test_a_file_that_ends_without_a_shutdown_ends_with_its_node_if_another_node_saw_that() -> None:
    killed = recording(spawned(0.5), note("sent", 1.0, leaves="m"))
    lost = {"kind": "node_lost", "name": "a", "incarnation": "1", "why": "silent", "t": 4.0}
    witness = recording(note("received", 2.0, arrives="m"), lost, name="b")
    history = read_history(merge({"killed": killed, "witness": witness}))
    [incident] = history.incidents
    assert (incident.fault.kind, incident.fault.reason) == ("node_killed", "node a")
    assert [death.process.node for death in incident.deaths] == ["a"]


def test_a_later_start_of_a_node_shows_that_the_start_before_it_was_killed() -> None:
    # No other node misses a node whose next start comes soon.
    killed = recording(spawned(0.5), note("sent", 1.0, leaves="m"))
    again = {"kind": "node_up", "name": "a", "incarnation": "2", "arrives": "a 2", "t": 4.0}
    witness = recording(note("received", 2.0, arrives="m"), again, name="b")
    for files in ({}, {"again": recording(incarnation="2")}):
        [incident] = read_history(merge({"killed": killed, "witness": witness, **files})).incidents
        assert (incident.fault.kind, incident.fault.reason) == ("node_killed", "node a")


def test_the_children_of_a_killed_node_are_not_back_until_another_node_has_them() -> None:
    def child(incarnation: str, t: float) -> list[bytes]:
        place = {"id": "'top'", "component": "top", "child": 1, "restart_type": "permanent"}
        events = spawned(t), {"kind": "child_started", "pid": 2, "t": t, **place}
        return recording(*events, note("sent", t + 1, leaves=incarnation), incarnation=incarnation)

    lost = {"kind": "node_lost", "name": "a", "incarnation": "1", "why": "silent", "t": 4.0}
    witness = recording(
        note("received", 2.0, arrives="1"), lost, note("r", 9.0, arrives="2"), name="b"
    )
    files = {"killed": child("1", 0.5), "witness": witness}
    assert measure(read_history(merge(files))).unrecovered == ["1 process not back"]
    files["again"] = child("2", 0.5)
    assert measure(read_history(merge(files))).unrecovered == []


def test_a_node_that_shut_down_in_order_was_not_killed() -> None:
    stopped = recording(spawned(0.5), note("sent", 1.0, leaves="m"), shutdown(2.0))
    lost = {"kind": "node_lost", "name": "a", "incarnation": "1", "why": "goodbye", "t": 4.0}
    witness = recording(note("received", 2.0, arrives="m"), lost, name="b")
    assert read_history(merge({"stopped": stopped, "witness": witness})).incidents == []


def test_the_second_start_of_a_node_has_a_number_and_takes_the_place_of_the_first() -> None:
    first = recording(spawned(0.5), note("one", 1.0, leaves="m"))
    again = recording(spawned(0.5), note("two", 1.0, leaves="k"))
    again[1] = again[1].replace(b'"incarnation":"1"', b'"incarnation":"2"')
    lost = {"kind": "node_lost", "name": "a", "incarnation": "1", "why": "silent", "t": 4.0}
    witness = recording(
        note("three", 2.0, arrives="m"), lost, note("four", 9.0, arrives="k"), name="b"
    )
    history = read_history(merge({"again": again, "first": first, "witness": witness}))
    [ended] = history.incidents[0].deaths
    assert ended.process.node == "a"
    assert ended.back is not None
    assert ended.back.node == "a#2"


def test_files_of_two_runs_are_refused() -> None:
    one, other = recording(note("x", 1.0)), recording(note("y", 1.0), name="b")
    with pytest.raises(UnrelatedRecordings, match=r"b\.jsonl and a\.jsonl do not belong together"):
        merge({"a.jsonl": one, "b.jsonl": other})


def young(*events: dict[str, Any], **about: Any) -> list[bytes]:
    """Return the file of a process that was killed before its node had a name."""
    lines = recording(spawned(0.1), *events, **about)
    del lines[1]
    return lines


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_file_of_a_node_without_a_name_is_left_out(place: int) -> None:
    files = [
        ("client", recording(note("sent", 1.0, leaves="m"), receives=True)),
        ("server", recording(note("received", 2.0, arrives="m"), name="b", receives=True)),
    ]
    files.insert(place, ("young", young()))
    lines = merge(dict(files))
    [head, *events] = decoded(lines)
    assert head["left_out"] == ["young"]
    assert list(head["merged"]) == ["a", "b"]
    assert head["receives"]
    assert "spawned" not in {each["kind"] for each in events}
    assert texts(lines) == ["sent", "received"]


@pytest.mark.parametrize(
    "other",
    [
        recording(spawned(0.1), name="c"),
        young(why="asked"),
        young(shutdown(2.0)),
        young(spawned(3600.0)),
    ],
    ids=["its node has a name", "somebody asked for it", "it shut down", "it is not the first"],
)
def test_any_other_file_that_no_message_joins_is_refused(other: list[bytes]) -> None:
    files = {
        "a": recording(note("sent", 1.0, leaves="m")),
        "b": recording(note("received", 2.0, arrives="m"), name="b"),
        "c": other,
    }
    with pytest.raises(UnrelatedRecordings, match="c and a do not belong together"):
        merge(files)


def test_two_files_of_one_start_are_refused() -> None:
    one = recording(note("x", 1.0))
    with pytest.raises(UnrelatedRecordings, match="both recordings of one start of the node a"):
        merge({"a.jsonl": one, "copy.jsonl": one})


def test_a_trace_that_is_no_recording_is_refused() -> None:
    lines = [b'{"n":0,"t":0,"round":0,"task":0,"kind":"note","text":"x"}']
    with pytest.raises(UnrelatedRecordings, match=r"t\.jsonl is not a recording"):
        merge({"t.jsonl": lines, "a.jsonl": recording()})


def test_files_that_contradict_each_other_are_refused() -> None:
    one = recording(note("x", 1.0, arrives="k"), note("y", 2.0, leaves="m"))
    other = recording(note("z", 1.0, arrives="m"), note("w", 2.0, leaves="k"), name="b")
    with pytest.raises(UnrelatedRecordings, match="contradict each other"):
        merge({"one": one, "other": other})


def test_an_address_that_two_connections_had_joins_each_with_its_own_end() -> None:
    client = recording(
        note("first", 1.0, leaves="tcp x"), note("second", 5.0, leaves="tcp x"), why="experiment"
    )
    server = recording(
        note("one", 11.0, arrives="tcp x"), note("two", 15.0, arrives="tcp x"), name="b"
    )
    found = texts(merge({"client": client, "server": server}))
    assert found == ["first", "one", "second", "two"]
