from supervision.recording.reader.history import read_history
from supervision.recording.reader.records import History
from tests.supervision.laboratory.chaos.traces import (
    CLOSED,
    CRASH,
    KILLED,
    NORMAL,
    SHUTDOWN,
    HandMade,
)


def ended_by(history: History, fault: int = 0) -> list[str]:
    return [life.path for life in history.faults[fault].ended]


def test_a_process_has_its_place_its_times_and_its_reason() -> None:
    trace = HandMade()
    trace.spawned(0.0, 1, "/top")
    trace.spawned(0.5, 2, "/top/store", parent=1, inc=3)
    trace.exited(2.0, 2, CRASH)
    top, store = read_history(trace.lines).processes
    assert (top.born, top.ended, top.reason) == (0.0, None, None)
    assert (store.path, store.incarnation, store.parent) == ("/top/store", 3, top)
    assert (store.born, store.ended, store.exit) == (0.5, 2.0, "crash")


def test_a_fault_ends_every_process_along_its_chain_of_causes() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/top")
    trace.spawned(0, 2, "/top/a", parent=1)
    trace.spawned(0, 3, "/top/b", parent=1)
    kill = trace.fault(1, "kill /top/a", pid=2)
    first = trace.exited(1, 2, KILLED, cause=kill)
    signal = trace.signal(1, 2, 3, KILLED, linked=True, cause=first)
    trace.exited(1, 3, KILLED, cause=signal)
    history = read_history(trace.lines)
    assert ended_by(history) == ["/top/a", "/top/b"]
    assert [life.fault is not None for life in history.processes] == [False, True, True]


def test_a_fault_ends_the_processes_that_a_supervisor_stops_for_it() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/top")
    trace.spawned(0, 2, "/top/group", parent=1)
    fault = trace.fault(1, "crash /top/other", path="/top/other", type="crash")
    heard = trace.received(1, 1, cause=fault)
    trace.signal(1, 1, 2, SHUTDOWN, linked=False, cause=heard)
    # The group traps exits, so it gets a message, of which the trace does not say the cause.
    told = trace.add(1, "received", pid=2, via="exit")
    trace.exited(1, 2, SHUTDOWN, cause=told)
    assert ended_by(read_history(trace.lines)) == ["/top/group"]


def test_a_masked_fault_has_ended_nothing() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/top")
    kill = trace.fault(1, "kill /top", pid=1, status="masked", why="it was ending already")
    trace.exited(1, 1, KILLED, cause=kill)
    history = read_history(trace.lines)
    assert ended_by(history) == []
    assert history.faults[0].why == "it was ending already"


def test_the_fault_does_not_explain_the_later_acts_of_a_restarted_process() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/top")
    trace.spawned(0, 2, "/top/a", parent=1)
    kill = trace.fault(1, "kill /top/a", pid=2)
    end = trace.exited(1, 2, KILLED, cause=kill)
    again = trace.spawned(1.5, 3, "/top/a", parent=1, inc=2, cause=end)
    # It says something, long afterwards, and somebody crashes of it.
    said = trace.add(
        9, "sent", pid=3, to=1, via="info", message_kind="boo", message="'boo'", cause=again
    )
    heard = trace.received(9, 1, cause=said)
    trace.exited(9, 1, CRASH, cause=heard)
    assert ended_by(read_history(trace.lines)) == ["/top/a"]


def test_a_fault_explains_a_restart_that_fails() -> None:
    trace = HandMade()
    trace.spawned(0, 2, "/top/a")
    kill = trace.fault(1, "kill /top/a", pid=2)
    end = trace.exited(1, 2, KILLED, cause=kill)
    again = trace.spawned(1, 3, "/top/a", inc=2, cause=end)
    trace.exited(1, 3, CRASH, cause=again)
    assert ended_by(read_history(trace.lines)) == ["/top/a", "/top/a"]


def test_an_unclean_end_without_a_chain_is_due_to_a_fault_of_its_target() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.spawned(0, 2, "/b")
    trace.fault(1, "crash /a", pid=1, type="crash")
    trace.fault(1, "slow /b", pid=2, type="slow")
    trace.exited(2, 1, CRASH)
    trace.exited(2, 2, NORMAL)
    history = read_history(trace.lines)
    assert ended_by(history, 0) == ["/a"]
    assert ended_by(history, 1) == []


def test_a_reset_connection_ends_the_process_that_serves_it() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/connection")
    trace.add(0, "serves", pid=1, connection="phone->server#1")
    trace.fault(1, "reset", path="phone->server#1", type="reset_connection")
    trace.exited(1, 1, CLOSED)
    assert ended_by(read_history(trace.lines)) == ["/connection"]


def test_a_new_process_replaces_the_first_that_ended_at_its_path() -> None:
    trace = HandMade()
    for pid in (1, 2, 3):
        trace.spawned(0, pid, "/room", inc=pid)
    trace.exited(1, 1, CRASH)
    trace.exited(2, 2, CRASH)
    trace.spawned(3, 4, "/room", inc=4)
    lives = read_history(trace.lines).processes
    assert lives[0].back is lives[3]
    assert lives[0].recovered_after == 2
    assert lives[1].back is None


def test_a_process_that_ended_cleanly_has_no_replacement() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/room")
    trace.exited(1, 1, NORMAL)
    trace.spawned(3, 2, "/room", inc=2)
    assert read_history(trace.lines).processes[0].back is None


def test_a_process_without_an_id_may_come_back_in_another_partition() -> None:
    trace = HandMade()
    trace.spawned(0, 2, "/pool/0/Room", parent=1, role="/pool/*/Room")
    trace.spawned(0, 3, "/pool/0/worker", parent=1)
    trace.exited(1, 2, CRASH)
    trace.exited(1, 3, CRASH)
    trace.spawned(2, 4, "/pool/1/Room", parent=1, role="/pool/*/Room")
    trace.spawned(2, 5, "/pool/1/worker", parent=1)
    room, worker, other, _ = read_history(trace.lines).processes
    assert room.back is other
    assert worker.back is None


def test_a_restart_by_a_supervisor_is_known_as_one() -> None:
    trace = HandMade()
    trace.spawned(0, 2, "/top/a")
    trace.exited(1, 2, CRASH)
    trace.spawned(1, 3, "/top/a", inc=2)
    trace.child(1, "child_restarted", 3, "a")
    assert [life.restarted for life in read_history(trace.lines).processes] == [False, True]


def test_a_message_has_its_sender_its_receiver_and_its_times() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.spawned(0, 2, "/b")
    sent = trace.sent(1, 2, "hello", pid=1)
    trace.received(1.5, 2, cause=sent)
    trace.sent(2, 2, "join")
    first, second = read_history(trace.lines).messages
    assert first.sender is not None
    assert first.receiver is not None
    assert (first.sender.path, first.receiver.path, first.kind) == ("/a", "/b", "hello")
    assert (first.received, second.received) == (1.5, None)
    assert (second.sender, second.kind) == (None, "join")


def test_ends_during_the_shutdown_of_a_run_have_no_fault() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    kill = trace.fault(1, "kill /a", pid=1)
    trace.phases(0, 0.5, 2, 3)
    trace.exited(4, 1, KILLED, cause=kill)
    history = read_history(trace.lines)
    assert ended_by(history) == []
    assert [(p.name, p.begin, p.end) for p in history.phases] == [
        ("before", 0, 0.5),
        ("during", 0.5, 2),
        ("after", 2, 3),
    ]


def test_a_run_closes_when_its_runtime_asks_the_top_to_stop() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.signal(5, 0, 1, SHUTDOWN, linked=False)
    trace.exited(5, 1, CRASH)
    history = read_history(trace.lines)
    assert history.closing == 5
    assert history.is_closing(5)
    assert not history.is_closing(4.9)


def test_the_processes_of_a_killed_node_end_with_it() -> None:
    trace = HandMade()
    for node in ("a#2", "b"):
        trace.spawned(0, 1, "/top", node=node, host=node[0])
    kill = trace.fault(1, "kill the node a", path="a", type="kill_node")
    trace.add(1, "node_killed", node="a#2", host="a", power=False, cause=kill)
    history = read_history(trace.lines)
    assert [life.ended for life in history.processes] == [1, None]
    assert ended_by(history) == ["/top"]


def test_a_fault_that_turns_out_to_have_no_effect_is_masked() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    slow = trace.fault(1, "slow /a", pid=1, type="slow")
    trace.add(2, "fault_over", pid=1, fault_event=slow, status="masked", why="it ended")
    assert read_history(trace.lines).faults[0].status == "masked"


def _a_client_comes_back(source: str, *, rejoined: float) -> HandMade:
    """A client whose connection and channel end at 5 s, by a fault. The client has joined again at another time."""
    trace = HandMade()
    for pid, born in ((1, 0.0), (3, rejoined)):
        name = f"{source}->server#{pid}"
        trace.spawned(born, pid, "/connections/Connection", inc=pid)
        trace.add(born, "serves", pid=pid, connection=name)
        trace.spawned(born, pid + 1, "/channels/Room", inc=pid)
        about = {"topic": "room:a", "channel": "Room", "result": "ok", "seconds": 0.0}
        trace.add(born, "joined", pid=pid + 1, connection_pid=pid, **about)
    for pid in (1, 2):
        kill = trace.fault(5, pid=pid)
        trace.exited(5, pid, KILLED, cause=kill)
    trace.phases()
    return trace


def test_a_client_that_rejoined_before_its_old_channel_ended_is_back() -> None:
    history = read_history(_a_client_comes_back("client 7", rejoined=3.0).lines)
    connection, channel = (each for each in history.processes if each.ended is not None)
    assert connection.back is history.processes[2]
    assert channel.back is history.processes[3]
    assert (connection.recovered_after, channel.recovered_after) == (0.0, 0.0)


def test_clients_with_only_an_address_are_not_taken_for_one_client() -> None:
    history = read_history(_a_client_comes_back("127.0.0.1", rejoined=3.0).lines)
    assert [each.back for each in history.processes if each.ended is not None] == [None, None]
