"""Pids, references, messages, results, and the texts of errors."""

import copy
from typing import Any, cast

import pytest

from actors import (
    KILLED,
    NORMAL,
    AlreadyStarted,
    CallExit,
    CallingSelf,
    CallTimeout,
    Continue,
    Crash,
    DeadProcess,
    Down,
    Exit,
    InvalidReturn,
    NameTaken,
    NoProcess,
    NoReply,
    NoSuchName,
    NotAProcess,
    Pid,
    ProcessExit,
    ProcessKilled,
    Ref,
    Reply,
    ServerExit,
    StartError,
    Stop,
    Timeout,
    Within,
)


def pid(number: int = 7) -> Pid:
    return Pid(number, cast("Any", None))


def test_pids_and_references_are_equal_only_to_themselves() -> None:
    one, other = pid(), pid()
    assert one != other
    assert len({one, other, one}) == 2
    assert Ref(1) != Ref(1)
    assert (repr(one), repr(Ref(3))) == ("<pid 7>", "<ref 3>")
    assert (one.number, Ref(3).number) == (7, 3)


def test_messages_are_equal_by_value_and_hashable_with_any_reason() -> None:
    one, ref = pid(), Ref(1)
    assert Exit(one, KILLED) == Exit(one, KILLED)
    assert Exit(one, KILLED) != Exit(pid(), KILLED)
    assert Down(ref, one, NORMAL) != Down(Ref(1), one, NORMAL)
    assert Timeout() == Timeout()
    unhashable: Any = ["a", "list"]
    assert len({Exit(one, unhashable), Down(ref, one, unhashable), Timeout()}) == 3


def test_results_have_the_documented_defaults() -> None:
    assert Reply(1, then=Within(2)) == Reply(1, then=Within(2))
    assert repr(Stop("bad")) == "Stop(reason='bad', reply=no reply)"
    assert Stop().reason is NORMAL
    assert Continue().argument is None
    assert NoReply().then is None
    # The marker for a missing reply is equal to itself, even in a copy.
    assert copy.copy(Stop()) == Stop()
    assert Stop(reply=None) != Stop()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            NoProcess("db", "get", 5),
            "call('db', 'get'): no process has this name; start the server before the call,",
        ),
        (CallTimeout("db", "get", 1.5), "got no answer within 1.5 s; the server may still"),
        (CallTimeout("db", "get", 1.5), "call('db', 'get')"),
        (CallingSelf("db", "get", 5), "a process cannot call itself; call the method directly"),
        (ServerExit(KILLED, "db", "get", 5), "the server ended with KILLED"),
        (
            ServerExit(Crash(KeyError("k")), "db", "get", 5),
            "the server ended with KeyError: 'k'",
        ),
        (CallExit("odd", "db", "get", 5), "got no answer: 'odd'"),
        (StartError("bad"), "the process did not start: 'bad'"),
        (StartError(Crash(OSError("port"))), "the process did not start: OSError: port"),
        (AlreadyStarted("db", pid()), "'db' is already started, as <pid 7>"),
        (NameTaken("db", pid(), "advice"), "advice"),
        (NoSuchName("db"), "no process is registered as 'db'; start it first, or send to a pid"),
        (DeadProcess(pid()), "<pid 7> is not alive"),
        (NotAProcess("link"), "link works only inside a process"),
        (NotAProcess("link"), "spawn() a process"),
        (InvalidReturn("S.init", 3, ["None"]), "S.init returned 3; it may return None"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_say_what_happened_and_what_to_do(error: Exception, says: str) -> None:
    assert says in str(error)


def test_errors_carry_their_values_as_fields() -> None:
    error = CallTimeout("db", "get", 1.5)
    assert (error.server, error.request, error.timeout) == ("db", "get", 1.5)
    assert isinstance(error, CallExit)
    assert isinstance(NoSuchName("db"), LookupError)
    assert isinstance(NotAProcess("link"), RuntimeError)
    assert isinstance(InvalidReturn("S.init", 3, ()), TypeError)


def test_process_exit_and_process_killed_are_not_exceptions() -> None:
    assert not issubclass(ProcessExit, Exception)
    assert not issubclass(ProcessKilled, Exception)
    assert ProcessExit("done").reason == "done"
