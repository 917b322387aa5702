"""Effects and reports of every fault to processes and messages, in a simulated world and on a live runtime."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from actors import KILLED, SHUTDOWN, CallTimeout, ServerExit
from supervision.laboratory.chaos.faults.kinds import (
    DelayMessage,
    DropMessage,
    DuplicateMessage,
    ExitWith,
    Fault,
    FillMailbox,
    Hang,
    Junk,
    Kill,
    Raise,
    ReorderMessage,
    SkewClock,
    Slow,
    StallLoop,
    SwallowCancellation,
)
from supervision.laboratory.chaos.faults.moments import At, On
from tests.supervision.laboratory.chaos.stage import Seen, is_injected, live, simulated

STORE, EAR = "/top/store", "/top/ear"

Play = Callable[..., Seen]


@pytest.fixture(params=[simulated, live])
def play(request: pytest.FixtureRequest) -> Play:
    chosen: Play = request.param
    return chosen


def puts(seen: Seen) -> list[int]:
    return [number for what, number in seen.of("handle_cast") if what == "put"]


def killed_at_once(seen: Seen) -> None:
    assert seen.exits[0] == (1.0, "/top/store#1", KILLED)
    assert len(seen.of("init")) == 2
    assert seen.of("terminate") == []


def ended_bored(seen: Seen) -> None:
    assert seen.exits[0] == (1.0, "/top/store#1", "bored")
    assert len(seen.of("init")) == 2


def ended_as_by_kill(seen: Seen) -> None:
    assert seen.exits[0] == (1.0, "/top/store#1", KILLED)


def shut_down(seen: Seen) -> None:
    assert seen.exits[0] == (1.0, "/top/store#1", SHUTDOWN)


def killed_before_the_third_put(seen: Seen) -> None:
    assert seen.ends(STORE)[0] is KILLED
    assert puts(seen)[:3] == [1, 2, 4]


def crashed_in_the_third_put(seen: Seen) -> None:
    assert is_injected(seen.ends(STORE)[0])
    assert puts(seen)[:3] == [1, 2, 4]
    # As for any other crash of a callback.
    assert seen.of("terminate")[0] == seen.ends(STORE)[0]


def crashed_in_a_call(seen: Seen) -> None:
    assert isinstance(seen.answers[1], ServerExit)
    assert is_injected(seen.answers[1].reason)
    assert isinstance(seen.answers[2], tuple)


def crashed_after_its_time(seen: Seen) -> None:
    assert is_injected(seen.ends(STORE)[0])
    assert 1.0 <= seen.exits[0][0] <= 1.1


def crashed_in_the_next_init(seen: Seen) -> None:
    assert is_injected(seen.ends(STORE)[0])
    assert [where for _, where, _ in seen.exits[:2]] == ["/top/store#2", "/top/store#3"]


def crashed_in_terminate(seen: Seen) -> None:
    # Its successor's, at the end, ran.
    assert seen.of("terminate") == [SHUTDOWN]
    assert is_injected(seen.ends(STORE)[0])


def ear_crashed(seen: Seen) -> None:
    assert is_injected(seen.ends(EAR)[0])
    assert [number for _, (_, number) in seen.heard[:4]] == [1, 2, 4, 5]


def ear_crashed_as_it_began_again(seen: Seen) -> None:
    assert [is_injected(reason) for reason in seen.ends(EAR)[:2]] == [False, True]
    assert len(seen.ends(EAR)) == 3


def hung_until_healed(seen: Seen) -> None:
    (before, after) = next(
        (one, other)
        for one, other in zip(
            seen.times("handle_cast"), seen.times("handle_cast")[1:], strict=False
        )
        if other - one > 1
    )
    assert before == pytest.approx(0.9)
    assert after == 8.0
    # Nothing was lost.
    assert puts(seen) == list(range(1, 95))
    assert sum(isinstance(answer, CallTimeout) for answer in seen.answers) >= 13


def slowed(seen: Seen) -> None:
    assert seen.times("handle_cast")[2] == pytest.approx(0.3 + 0.7)
    assert puts(seen) == list(range(1, 95))
    assert seen.exits[0][0] == 10.0


def became_a_zombie(seen: Seen) -> None:
    assert seen.zombies == 1
    (end,) = [seconds for seconds, where, _ in seen.exits if where == "/top/store#1"]
    # Killed at 1 s, and given up after the kill grace.
    assert end == pytest.approx(6.0)
    assert seen.times("init") == [0.0, pytest.approx(6.0)]


def ended_when_it_could(seen: Seen) -> None:
    assert seen.zombies == 0
    assert seen.times("init") == [0.0, pytest.approx(2.3)]


def full_of_junk(seen: Seen) -> None:
    assert [what for what in seen.of("handle_info") if type(what) is Junk] == [
        Junk(number) for number in range(1, 51)
    ]


def lost_the_third_put(seen: Seen) -> None:
    assert puts(seen) == [1, 2, *range(4, 95)]


def lost_a_put_after_its_time(seen: Seen) -> None:
    (lost,) = set(range(1, 95)) - set(puts(seen))
    assert lost in (10, 11)


def lost_what_was_said(seen: Seen) -> None:
    assert [number for _, (_, number) in seen.heard[:4]] == [1, 3, 4, 5]


def call_timed_out(seen: Seen) -> None:
    assert isinstance(seen.answers[1], CallTimeout)
    assert ("get", 1) not in seen.of("handle_call")


def late_put(seen: Seen) -> None:
    assert puts(seen)[:9] == [1, 2, 4, 5, 6, 7, 8, 3, 9]
    assert seen.times("handle_cast")[7] == pytest.approx(0.3 + 0.55)


def put_twice(seen: Seen) -> None:
    assert puts(seen) == [1, 2, 3, *range(3, 95)]


def called_twice_and_answered_once(seen: Seen) -> None:
    assert seen.of("handle_call")[:3] == [("get", 0), ("get", 0), ("get", 1)]
    assert seen.answers == [("get", number) for number in range(20)]


def overtaken(seen: Seen) -> None:
    assert puts(seen)[:5] == [1, 2, 4, 3, 5]


def clock_was_ahead(seen: Seen) -> None:
    steps = [other - one for one, other in zip(seen.clock, seen.clock[1:], strict=False)]
    assert max(steps) > 99
    # And set right when the faults were healed, which is after the last look at it.
    assert min(steps) >= 0


def stood_still(seen: Seen) -> None:
    pauses = [
        b - a
        for a, b in zip(seen.times("handle_cast"), seen.times("handle_cast")[1:], strict=False)
    ]
    assert max(pauses) == pytest.approx(0.75, abs=0.11)
    assert puts(seen) == list(range(1, 95))


def supervisor_was_killed(seen: Seen) -> None:
    assert (1.0, "/top/inner#1", KILLED) in seen.exits
    assert len(seen.ends("/top/inner")) == 2


def supervisor_crashed(seen: Seen) -> None:
    assert is_injected(seen.ends("/top/inner")[0])
    assert len(seen.ends("/top/inner")) == 2


APPLIED: dict[str, tuple[Sequence[Fault], Callable[[Seen], None]]] = {
    "kill": ([Kill(target=STORE, when=At(1))], killed_at_once),
    "kill by pattern": ([Kill(target="/top/st*", when=At(1))], killed_at_once),
    "kill the one that is picked": ([Kill(target="/top/*", pick=0.0, when=At(1))], killed_at_once),
    "kill on a callback": (
        [Kill(target=STORE, when=On("handle_cast", nth=3))],
        killed_before_the_third_put,
    ),
    "exit": ([ExitWith(target=STORE, reason="bored", when=At(1))], ended_bored),
    "exit as by kill": ([ExitWith(target=STORE, reason="kill", when=At(1))], ended_as_by_kill),
    "exit as by shutdown": ([ExitWith(target=STORE, reason="shutdown", when=At(1))], shut_down),
    "crash in a cast": (
        [Raise(target=STORE, when=On("message", nth=3, kind="put"))],
        crashed_in_the_third_put,
    ),
    "crash in a call": (
        [Raise(target=STORE, when=On("handle_call", nth=2, kind="g*"))],
        crashed_in_a_call,
    ),
    "crash after a time": ([Raise(target=STORE, when=At(1))], crashed_after_its_time),
    "crash in terminate": (
        [
            Raise(target=STORE, when=On("terminate")),
            Raise(target=STORE, when=At(1)),
        ],
        crashed_in_terminate,
    ),
    "crash of a plain process": ([Raise(target=EAR, when=On("receive", nth=3))], ear_crashed),
    "hang": ([Hang(target=STORE, when=On("handle_cast", nth=10))], hung_until_healed),
    "slow": ([Slow(target=STORE, seconds=0.7, when=On("handle_cast", nth=3))], slowed),
    "fill": ([FillMailbox(target=STORE, messages=50, when=At(1))], full_of_junk),
    "fill on a callback": (
        [FillMailbox(target=STORE, messages=50, when=On("handle_call"))],
        full_of_junk,
    ),
    "drop": ([DropMessage(target=STORE, when=On("handle_cast", nth=3))], lost_the_third_put),
    "drop by kind": (
        [DropMessage(target=STORE, kind="p?t", when=On("message", nth=3))],
        lost_the_third_put,
    ),
    "drop after a time": (
        [DropMessage(target=STORE, kind="put", when=At(0.95))],
        lost_a_put_after_its_time,
    ),
    "drop what a plain process receives": (
        [DropMessage(target=EAR, when=On("receive", nth=2))],
        lost_what_was_said,
    ),
    "drop a call": ([DropMessage(target=STORE, when=On("handle_call", nth=2))], call_timed_out),
    "delay": (
        [DelayMessage(target=STORE, seconds=0.55, when=On("handle_cast", nth=3))],
        late_put,
    ),
    "duplicate": ([DuplicateMessage(target=STORE, when=On("handle_cast", nth=3))], put_twice),
    "duplicate a call": (
        [DuplicateMessage(target=STORE, when=On("handle_call"))],
        called_twice_and_answered_once,
    ),
    "reorder": ([ReorderMessage(target=STORE, when=On("handle_cast", nth=3))], overtaken),
    "skew": ([SkewClock(seconds=100, when=At(1.5))], clock_was_ahead),
    "stall": ([StallLoop(seconds=0.75, when=At(1.05))], stood_still),
    "kill a supervisor": ([Kill(target="/top/inner", when=At(1))], supervisor_was_killed),
    "crash a supervisor": (
        [
            FillMailbox(target="/top/inner", messages=1, when=At(1)),
            Raise(target="/top/inner", when=On("handle_info")),
        ],
        supervisor_crashed,
    ),
    "crash in the next init": (
        [
            Raise(target=STORE, when=On("init", incarnation=3)),
            Raise(target=STORE, when=On("init", incarnation=2)),
            Kill(target=STORE, when=At(1)),
        ],
        lambda seen: crashed_in_the_next_init(
            Seen(exits=[each for each in seen.exits if each[2] is not KILLED])
        ),
    ),
    "crash of a plain process that begins again": (
        [
            Raise(target=EAR, when=On("run", incarnation=2)),
            Kill(target=EAR, when=At(1)),
        ],
        ear_crashed_as_it_began_again,
    ),
    "swallow longer than the kill grace": (
        [
            SwallowCancellation(target=STORE, seconds=7.0, when=On("handle_cast", nth=3)),
            Kill(target=STORE, when=At(1)),
        ],
        became_a_zombie,
    ),
    "swallow for less": (
        [
            SwallowCancellation(target=STORE, seconds=2.0, when=On("handle_cast", nth=3)),
            Kill(target=STORE, when=At(1)),
        ],
        ended_when_it_could,
    ),
}


@pytest.mark.parametrize(("plan", "check"), APPLIED.values(), ids=APPLIED)
def test_an_applied_fault_has_its_documented_effect(
    play: Play, plan: Sequence[Fault], check: Callable[[Seen], None]
) -> None:
    seen = play(
        plan,
        traps=any(isinstance(each.when, On) and each.when.callback == "terminate" for each in plan),
    )
    assert [(report.fault, report.status) for report in seen.reports] == [
        (fault, "applied") for fault in plan
    ]
    for report in seen.reports:
        assert report.seconds is not None
        assert report.where is not None
        assert report.why is None
    check(seen)


MASKED: dict[str, tuple[Sequence[Fault], str, dict[str, Any]]] = {
    "a process that is ending already": (
        [
            SwallowCancellation(target=STORE, seconds=2, when=On("handle_cast", nth=3)),
            Kill(target=STORE, when=At(1)),
            Kill(target=STORE, when=At(1.5)),
        ],
        "the process was already ending",
        {},
    ),
    "a clean reason for who does not trap exits": (
        [ExitWith(target=STORE, reason="normal", when=At(1))],
        "the process does not trap exits, so a signal with NORMAL has no effect",
        {},
    ),
    "a callback that is cut short": (
        [
            Kill(target=STORE, when=At(1)),
            Slow(target=STORE, seconds=5, when=On("handle_cast", nth=3)),
        ],
        "the process ended during the delay",
        {},
    ),
    "a late message to who has ended": (
        [
            Kill(target=STORE, when=At(1)),
            DelayMessage(target=STORE, seconds=1, when=On("handle_cast", nth=3)),
        ],
        "its receiver ended before the message arrived",
        {},
    ),
    "a message that nothing overtakes": (
        [
            ReorderMessage(target=EAR, kind="nothing", when=At(1)),
            ReorderMessage(target="/top/inner", when=On("handle_info")),
        ],
        "no other message to its receiver followed within 1 s",
        {},
    ),
}


@pytest.mark.parametrize(("plan", "why", "options"), MASKED.values(), ids=MASKED)
def test_a_fault_without_effect_is_masked_with_a_reason(
    play: Play, plan: Sequence[Fault], why: str, options: dict[str, Any]
) -> None:
    seen = play(plan, **options)
    masked = [report for report in seen.reports if report.status == "masked"]
    assert [report.why for report in masked] == [why]
    assert masked[0].fault is plan[-1]
    assert masked[0].where is not None
    assert masked[0].seconds is not None


NOT_APPLICABLE: dict[str, tuple[Fault, str]] = {
    "nobody there": (Kill(target="/nobody", when=At(1)), "there was no such process at that time"),
    "nobody there to get a message": (
        DropMessage(target="/nobody", when=At(1)),
        "no such message was sent after that time",
    ),
    "nobody there whose callback could be": (
        Raise(target="/nobody", when=At(1)),
        "no such callback began after that time",
    ),
    "no such moment": (Kill(target=STORE, when=On("handle_continue")), "its moment never came"),
    "nobody there for a moment": (
        Kill(target="*/ChannelServer", when=On("init")),
        "its moment never came: no process whose path matches */ChannelServer began a callback",
    ),
    "not so often": (
        Kill(target=STORE, when=On("handle_call", nth=100)),
        "its moment never came: it takes 100, and there were 16",
    ),
    "not such a message": (
        DropMessage(target=STORE, kind="post", when=On("message")),
        "its moment never came",
    ),
    "not such an incarnation": (
        Raise(target=STORE, when=On("handle_cast", incarnation=2)),
        "its moment never came",
    ),
    "too late": (
        Kill(target=STORE, when=At(9)),
        "the faults were healed before it was due",
    ),
}


@pytest.mark.parametrize(("fault", "why"), NOT_APPLICABLE.values(), ids=NOT_APPLICABLE)
def test_a_fault_whose_moment_never_comes_is_not_applicable_with_a_reason(
    play: Play, fault: Fault, why: str
) -> None:
    report = play([fault]).report
    assert (report.status, report.why) == ("not_applicable", why)
    assert (report.seconds, report.where) == (None, None)


def test_several_faults_may_apply_to_one_callback(play: Play) -> None:
    third = On("handle_cast", nth=3)
    seen = play(
        [
            Slow(target=STORE, seconds=0.2, when=third),
            FillMailbox(target=STORE, messages=2, when=third),
            Slow(target=STORE, seconds=0.3, when=third),
            Raise(target=STORE, when=third),
            Slow(target=STORE, seconds=9.0, when=third),
        ]
    )
    assert [report.status for report in seen.reports] == [*["applied"] * 4, "masked"]
    assert seen.reports[4].why == "another fault ended the callback first"
    assert is_injected(seen.exits[0][2])
    assert seen.exits[0][0] == pytest.approx(0.3 + 0.5)


def test_several_faults_may_apply_to_one_message_in_turn(play: Play) -> None:
    plan = [DropMessage(target=STORE, kind="put", when=On("message", nth=n)) for n in (3, 3, 4)]
    seen = play(plan)
    assert [report.status for report in seen.reports] == ["applied", "masked", "applied"]
    assert seen.reports[1].why == "another fault was applied to the same message"
    assert puts(seen)[:3] == [1, 2, 5]


def test_a_message_of_a_process_to_itself_is_never_faulted(play: Play) -> None:
    # A supervisor that tries a start again reminds itself; it would wait for ever.
    plan = [
        DropMessage(target="/top", when=At(0.5)),
        Raise(target=STORE, when=On("init", incarnation=2)),
        Kill(target=STORE, when=At(1)),
    ]
    seen = play(plan)
    assert [report.status for report in seen.reports] == ["not_applicable", "applied", "applied"]
    assert len(seen.ends(STORE)) == 3


def test_everything_continues_when_the_faults_are_healed(play: Play) -> None:
    seen = play(
        [
            Hang(target=STORE, when=At(1)),
            DelayMessage(target=EAR, seconds=60, when=On("receive", nth=2)),
            SwallowCancellation(target="/top/inner", seconds=60, when=At(1)),
            FillMailbox(target="/top/inner", messages=1, when=At(2)),
        ]
    )
    assert [report.status for report in seen.reports] == ["applied"] * 4
    assert puts(seen) == list(range(1, 95))
    assert ("say", 2) in [what for seconds, what in seen.heard if seconds == 8.0]
    assert seen.exits[0][0] == 10.0
