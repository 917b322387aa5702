"""Streams: the number of tasks at a time, the order of outcomes, and the end of the block."""

import itertools
import math
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    TIMEOUT,
    Crash,
    Pid,
    Runtime,
    current_pid,
    current_runtime,
    is_alive,
    kill,
    monitor,
    on_exit,
    open_runtime,
    receive,
    send,
    send_exit,
    spawn,
    trap_exits,
)
from actors.errors import InvalidOption
from actors.messages import Down
from supervision.errors import TaskExit, TaskTimeout
from supervision.tasks.streams import async_stream
from supervision.tasks.task import Exited, Ok, callers
from supervision.tasks.task_supervisor import TaskSupervisor
from tests.actors.helpers import down, in_process, settle
from tests.supervision.streaming import LINKED, OPENERS, Opener, everything, plain
from tests.supervision.tasks.task_bodies import (
    deaf,
    double,
    end_with,
    forever,
    nothing_left,
    outcome_of,
    sleep_for,
)

any_stream = pytest.mark.parametrize("opener", OPENERS)
linked_stream = pytest.mark.parametrize("opener", LINKED)
at_a_time = pytest.mark.parametrize("size", [1, 3, 4, 100])


def processes() -> int:
    return len(current_runtime().processes())


# Outcomes


@any_stream
@at_a_time
@in_process()
async def test_every_item_has_its_outcome_and_nothing_is_left(opener: Opener, size: int) -> None:
    assert await everything(opener, double, range(6), max_concurrency=size) == [
        Ok(2 * n) for n in range(6)
    ]
    await nothing_left()


@any_stream
@at_a_time
@in_process()
async def test_ordered_outcomes_wait_for_a_slow_first_one(opener: Opener, size: int) -> None:
    seconds = [3.0, 2.0, 1.0, 0.0]
    outcomes = await everything(opener, sleep_for, seconds, max_concurrency=size)
    assert outcomes == [Ok(n) for n in seconds]


@any_stream
@in_process()
async def test_unordered_outcomes_come_as_they_are_ready(opener: Opener) -> None:
    outcomes = await everything(
        opener, sleep_for, [4.0, 1.0, 2.0], max_concurrency=4, ordered=False
    )
    assert outcomes == [Ok(1.0), Ok(2.0), Ok(4.0)]


@any_stream
@at_a_time
@in_process()
async def test_as_many_tasks_run_as_the_limit_allows(opener: Opener, size: int) -> None:
    running, most = 0, 0

    async def work(seconds: float) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(seconds)
        running -= 1

    began = trio.current_time()
    seconds = [4.0] + [1.0] * 11
    await everything(opener, work, seconds, max_concurrency=size)
    assert most == min(size, 12)
    # A slow first task does not delay the others. It occupies one of three places, and the other two do the rest.
    assert trio.current_time() - began == {1: 15, 3: 5, 4: 4, 100: 4}[size]


@in_process()
async def test_items_are_taken_when_a_task_may_start_and_the_consumer_waits() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[float]:
        for number in range(1000):
            taken.append(number)
            yield number

    async with async_stream(sleep_for, numbers(), max_concurrency=2) as results:
        assert taken == []
        assert await anext(results) == Ok(0)
        assert taken == [0, 1]
        await trio.sleep(10)
        assert taken == [0, 1]
        assert await anext(results) == Ok(1)
        assert taken == [0, 1, 2, 3]


@in_process()
async def test_an_infinite_concurrency_starts_all_at_once() -> None:
    began = trio.current_time()
    options: Any = {"max_concurrency": math.inf}
    await everything(plain, sleep_for, [3.0] * 50, **options)
    assert trio.current_time() - began == 3


@in_process()
async def test_an_exhausted_stream_stays_exhausted() -> None:
    async with async_stream(double, [1], max_concurrency=1) as results:
        assert [outcome async for outcome in results] == [Ok(2)]
        assert [outcome async for outcome in results] == []


@in_process()
async def test_similar_messages_of_other_processes_stay_in_the_mailbox() -> None:
    async with async_stream(double, [1, 2], max_concurrency=1) as results:
        ref = monitor(spawn(trio.sleep, 0.0))
        await settle()
        assert [outcome async for outcome in results] == [Ok(2), Ok(4)]
    message = await receive(timeout=0)
    assert message == Down(ref, message.pid, NORMAL)
    await nothing_left()


# Crashes


@linked_stream
@in_process()
async def test_a_crash_ends_a_consumer_that_does_not_trap_exits(opener: Opener) -> None:
    async def consumer() -> None:
        await everything(opener, fails_on_two, range(9), max_concurrency=4)

    before = processes()
    assert await outcome_of(consumer) == Crash(ValueError(2))
    await settle()
    assert processes() <= before + 1  # the supervisor of the tasks


@linked_stream
@in_process()
async def test_a_crash_also_ends_tasks_that_ignore_a_shutdown(opener: Opener) -> None:
    pids: list[Pid] = []

    async def work(number: int) -> int:
        pids.append(current_pid())
        return await (deaf() if number else fails_on_two(2))

    async def consumer() -> None:
        await everything(opener, work, range(3), max_concurrency=3)

    assert await outcome_of(consumer) == Crash(ValueError(2))
    assert [is_alive(pid) for pid in pids] == [False] * 3


async def fails_on_two(number: int) -> int:
    await trio.sleep(number)
    if number == 2:
        raise ValueError(number)
    return number


@linked_stream
@in_process()
async def test_a_crash_is_an_outcome_for_a_consumer_that_traps_exits(opener: Opener) -> None:
    trap_exits()
    outcomes = await everything(opener, fails_on_two, range(4), max_concurrency=4)
    assert outcomes == [Ok(0), Ok(1), Exited(Crash(ValueError(2))), Ok(3)]
    await nothing_left()


@in_process()
async def test_a_crash_is_an_outcome_for_every_consumer_without_links() -> None:
    supervisor = await TaskSupervisor.start_link()
    async with TaskSupervisor.async_stream_nolink(
        supervisor, fails_on_two, range(4), max_concurrency=4, zip_input_on_exit=True
    ) as results:
        outcomes = [outcome async for outcome in results]
    assert outcomes == [Ok(0), Ok(1), Exited(Crash(ValueError(2)), item=2), Ok(3)]
    await nothing_left()


@any_stream
@at_a_time
@pytest.mark.parametrize("reason", [NORMAL, "boom", KILLED])
@in_process()
async def test_an_exit_is_an_outcome_with_its_reason(
    opener: Opener, size: int, reason: Any
) -> None:
    trap_exits()
    outcomes = await everything(opener, end_with, [reason] * 3, max_concurrency=size)
    assert outcomes == [Exited(reason)] * 3
    await nothing_left()


@any_stream
@in_process()
async def test_a_normal_exit_without_a_result_is_an_outcome(opener: Opener) -> None:
    outcomes = await everything(opener, end_with, [NORMAL], max_concurrency=1)
    assert outcomes == [Exited(NORMAL)]


@in_process()
async def test_a_crash_of_a_task_is_reported_once() -> None:
    crashes: list[Any] = []
    current_runtime().telemetry.attach(
        ("actors", "process", "crash"), lambda event, measured, about: crashes.append(about)
    )

    async def consumer() -> None:
        await everything(plain, fails_on_two, [2], max_concurrency=1)

    await outcome_of(consumer)
    assert [about["process"] for about in crashes] == ["task fails_on_two"]


# Timeouts


@any_stream
@in_process()
async def test_a_task_that_takes_too_long_ends_the_loop_and_the_others_are_killed(
    opener: Opener,
) -> None:
    before = processes()
    began = trio.current_time()
    with pytest.raises(TaskTimeout) as refused:
        await everything(opener, sleep_for, [1.0, 9.0, 8.0, 7.0], max_concurrency=3, timeout=2)
    assert refused.value.timeout == 2
    assert trio.current_time() - began == 2
    assert processes() <= before + 1
    await nothing_left()


@any_stream
@at_a_time
@pytest.mark.parametrize("ordered", [True, False])
@in_process()
async def test_a_task_that_takes_too_long_may_be_killed_and_that_is_its_outcome(
    opener: Opener, size: int, ordered: bool
) -> None:
    outcomes = await everything(
        opener,
        sleep_for,
        [1.0, 9.0, 1.5],
        max_concurrency=size,
        timeout=2,
        on_timeout="kill_task",
        zip_input_on_exit=True,
        ordered=ordered,
    )
    if not ordered:
        outcomes.sort(key=str)
        assert outcomes == [Exited(TIMEOUT, item=9.0), Ok(1.0), Ok(1.5)]
    else:
        assert outcomes == [Ok(1.0), Exited(TIMEOUT, item=9.0), Ok(1.5)]
    await nothing_left()


@in_process()
async def test_each_task_has_the_time_for_itself_and_five_seconds_unless_told_otherwise() -> None:
    assert await everything(plain, sleep_for, [4.0] * 4, max_concurrency=1) == [Ok(4.0)] * 4
    with pytest.raises(TaskTimeout) as refused:
        await everything(plain, sleep_for, [6.0], max_concurrency=1)
    assert refused.value.timeout == 5
    assert await everything(plain, sleep_for, [1e3], max_concurrency=1, timeout=math.inf) == [
        Ok(1e3)
    ]


@in_process()
async def test_a_task_that_ignores_a_shutdown_is_killed_too() -> None:
    async def work(number: int) -> int:
        return await deaf()

    outcomes = await everything(
        plain, work, [1, 2], max_concurrency=2, timeout=1, on_timeout="kill_task"
    )
    assert outcomes == [Exited(TIMEOUT), Exited(TIMEOUT)]


# Leaving early


@any_stream
@at_a_time
@in_process()
async def test_leaving_early_kills_what_runs_and_leaves_nothing(opener: Opener, size: int) -> None:
    pids: list[Pid] = []

    async def work(number: int) -> int:
        pids.append(current_pid())
        if number:
            await (forever() if number % 2 else deaf())
        return number

    async with opener(work, range(1000), max_concurrency=size) as results:
        async for outcome in results:
            assert outcome == Ok(0)
            break
        await settle()
    assert not any(is_alive(pid) for pid in pids)
    await nothing_left()


@any_stream
@in_process()
async def test_an_error_in_the_loop_arrives_as_it_is_and_nothing_is_left(opener: Opener) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with opener(sleep_for, [0.0, 50.0], max_concurrency=2) as results:
            async for _ in results:
                raise LookupError("mine")
    await nothing_left()


@in_process()
async def test_an_error_of_the_items_arrives_in_the_loop_after_what_came_before() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    seen: list[Any] = []
    with pytest.raises(LookupError, match="no more"):
        async with async_stream(double, numbers(), max_concurrency=1) as results:
            async for outcome in results:
                seen.append(outcome)  # noqa: PERF401 - what came before the error is kept
    assert seen == [Ok(2)]
    await nothing_left()


@pytest.mark.parametrize("halt", [True, False])
@in_process()
async def test_a_generator_of_items_is_closed_when_the_block_is_left(halt: bool) -> None:
    happened: list[str] = []

    def numbers() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            happened.append("closed")

    async with async_stream(double, numbers(), max_concurrency=2) as results:
        async for _ in results:
            if halt:
                break
    assert happened == ["closed"]


HALTED: Any = [
    (double, list(range(9)), [Ok(2 * n) for n in range(3)]),
    (
        fails_on_two,
        [0, 2, 1, 0, 2],
        [Ok(0), Exited(Crash(ValueError(2)), item=2), Ok(1)],
    ),
    (sleep_for, [3.0, 2.0, 1.0, 0.0], [Ok(3.0), Ok(2.0), Ok(1.0)]),
]
halted = pytest.mark.parametrize(
    ("function", "items", "outcomes"), HALTED, ids=["success", "failure", "slowest first"]
)


@halted
@at_a_time
@in_process()
async def test_a_limited_iterator_of_items_limits_the_stream(
    function: Any, items: list[Any], outcomes: list[Any], size: int
) -> None:
    trap_exits()
    first = itertools.islice(items, 3)
    assert (
        await everything(plain, function, first, max_concurrency=size, zip_input_on_exit=True)
        == outcomes
    )
    await nothing_left()


@halted
@at_a_time
@in_process()
async def test_a_loop_that_stops_early_has_the_outcomes_of_the_first_items(
    function: Any, items: list[Any], outcomes: list[Any], size: int
) -> None:
    trap_exits()
    async with async_stream(
        function, items, max_concurrency=size, zip_input_on_exit=True
    ) as results:
        assert [await anext(results) for _ in range(3)] == outcomes
    await nothing_left()


@in_process()
async def test_a_stream_without_a_consumer_starts_nothing() -> None:
    before = processes()
    async with async_stream(double, [1], max_concurrency=1):
        assert processes() == before + 1
    assert processes() == before
    assert async_stream(double, [1], max_concurrency=1) is not None
    await nothing_left()


@in_process()
async def test_an_outcome_that_comes_after_a_cancelled_wait_is_kept_for_the_next() -> None:
    async with async_stream(sleep_for, [1.0, 2.0], max_concurrency=2) as results:
        with trio.move_on_after(0.5):
            await anext(results)
        await trio.sleep(1)
        with trio.fail_after(5):
            assert [outcome async for outcome in results] == [Ok(1.0), Ok(2.0)]


@in_process()
async def test_a_wait_for_an_outcome_may_be_cancelled_and_repeated_at_any_moment() -> None:
    for limit in (0, 0.5, 1, 1.5, 2):
        async with async_stream(sleep_for, [1.0, 1.0, 2.0], max_concurrency=2) as results:
            seen = []
            with trio.move_on_after(limit):
                async for outcome in results:
                    seen.append(outcome)  # noqa: PERF401 - what came before is kept
            seen += [outcome async for outcome in results]
        assert seen == [Ok(1.0), Ok(1.0), Ok(2.0)]


@any_stream
@pytest.mark.parametrize("reason", ["boom", "kill", SHUTDOWN])
@in_process()
async def test_the_tasks_end_with_their_consumer_however_that_ends(
    opener: Opener, reason: Any
) -> None:
    pids: list[Pid] = []

    async def work(number: int) -> int:
        pids.append(current_pid())
        return await (forever() if number % 2 else deaf())

    async def consumer() -> None:
        async with opener(work, range(9), max_concurrency=4) as results:
            async for _ in results:
                pass

    pid = spawn(consumer)
    ref = monitor(pid)
    await settle()
    assert len(pids) == 4
    if reason == "kill":
        kill(pid)
    else:
        send_exit(pid, reason)
    await down(ref)
    await settle()
    assert not any(is_alive(each) for each in pids)


@in_process()
async def test_a_consumer_that_survives_the_kill_of_its_stream_gets_task_exit() -> None:
    trap_exits()
    with pytest.raises(TaskExit) as caught:
        async with async_stream(forever_for, [1], max_concurrency=1) as results:
            stream = next(
                pid
                for pid in current_runtime().processes()
                if (current_runtime().process_info(pid) or {})["label"].startswith("stream of")
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_soon, stream)
                try:
                    await anext(results)
                except TaskExit as error:
                    failure = error
            raise failure
    assert caught.value.reason is KILLED
    await nothing_left()


async def forever_for(item: Any) -> int:
    return await forever()


async def kill_soon(pid: Pid) -> None:
    await trio.sleep(1)
    kill(pid)


# Nesting and combining


@at_a_time
@in_process()
async def test_streams_can_be_walked_in_step_with_others(size: int) -> None:
    trap_exits()
    pairs = []
    async with (
        async_stream(fails_on_two, range(4), max_concurrency=size) as left,
        async_stream(sleep_for, [3.0, 2.0, 1.0], max_concurrency=size) as right,
    ):
        async for one in left:
            other = await anext(right, None)
            if other is None:
                break
            pairs.append((one, other))
    assert pairs == [
        (Ok(0), Ok(3.0)),
        (Ok(1), Ok(2.0)),
        (Exited(Crash(ValueError(2))), Ok(1.0)),
    ]
    await nothing_left()


@in_process()
async def test_streams_may_be_nested_and_halted_inside() -> None:
    async def numbers() -> Any:
        async with async_stream(double, range(3), max_concurrency=2) as outer:
            async for start in outer:
                assert isinstance(start, Ok)
                items = range(start.value, 100)
                async with async_stream(double, items, max_concurrency=3) as inner:
                    async for outcome in inner:
                        assert isinstance(outcome, Ok)
                        yield outcome
                        if outcome.value > 8:
                            break

    async with aclosing(numbers()) as source:
        seen = [outcome.value async for outcome in source]
    assert seen == [0, 2, 4, 6, 8, 10, 4, 6, 8, 10, 8, 10]
    await nothing_left()


# Callers


@any_stream
@in_process()
async def test_the_callers_of_the_tasks_are_the_maker_of_the_stream(opener: Opener) -> None:
    me = current_pid()

    async def who(item: Any) -> Any:
        return callers()

    assert await everything(opener, who, [1, 2], max_concurrency=2) == [Ok((me,))] * 2


@in_process()
async def test_a_stream_may_be_consumed_by_another_process_than_the_one_that_made_it() -> None:
    me = current_pid()

    async def who(item: Any) -> Any:
        return callers()

    stream = async_stream(who, [1, 2], max_concurrency=2)

    async def consumer() -> None:
        async with stream as results:
            send(me, [outcome async for outcome in results])

    spawn(consumer)
    assert await receive() == [Ok((me,)), Ok((me,))]


async def test_a_stream_works_for_a_plain_task(runtime: Runtime) -> None:
    async with async_stream(fails_on_two, range(4), max_concurrency=2) as results:
        outcomes = [outcome async for outcome in results]
    assert outcomes == [Ok(0), Ok(1), Exited(Crash(ValueError(2))), Ok(3)]
    assert runtime.processes() == []


async def test_a_runtime_that_ends_in_the_middle_of_a_stream_ends() -> None:
    ended: list[str] = []

    async def work(item: Any) -> int:
        on_exit(lambda: ended.append("task"))
        return await forever()

    async def consumer() -> None:
        await everything(plain, work, range(3), max_concurrency=2)

    async with open_runtime(log=False):
        spawn(consumer)
        await settle()
    assert ended == ["task", "task"]


# Mistakes


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_concurrency", 0),
        ("max_concurrency", "4"),
        ("max_concurrency", True),
        ("timeout", -1),
        ("timeout", None),
        ("timeout", math.nan),
        ("on_timeout", "kill"),
    ],
)
def test_an_invalid_option_is_refused_when_the_stream_is_made(option: str, value: Any) -> None:
    options: Any = {"max_concurrency": 1, option: value}
    with pytest.raises(InvalidOption) as caught:
        async_stream(double, [1], **options)
    assert caught.value.option == option


@any_stream
@in_process()
async def test_a_late_task_ends_the_loop_even_if_it_finishes_before_the_next_request(
    opener: Opener,
) -> None:
    outcomes: list[Any] = []
    with pytest.raises(TaskTimeout):
        async with opener(sleep_for, [1, 4], max_concurrency=2, timeout=2) as stream:
            async for outcome in stream:
                outcomes.append(outcome)
                # The second task exceeds its timeout after 2 seconds, and ends after 4 seconds.
                await trio.sleep(5)
    assert outcomes == [Ok(1)]


async def crash_after(seconds: float) -> None:
    await trio.sleep(seconds)
    raise ValueError(seconds)


@any_stream
@in_process()
async def test_a_late_task_that_crashes_before_the_next_request_ends_the_loop_with_the_timeout(
    opener: Opener,
) -> None:
    with pytest.raises(TaskTimeout):
        async with opener(crash_after, [3], max_concurrency=1, timeout=2) as stream:
            with trio.move_on_after(1):
                await anext(stream)
            # The task exceeds its timeout after 2 seconds, when nobody waits for it, and crashes after 3.
            await trio.sleep(4)
            await anext(stream)
