"""The virtual clock and the scheduler, without a world."""

import random
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
import trio

from supervision.laboratory.entropy import Streams, derive
from supervision.laboratory.simulation.scheduling.deviations import Deviations
from supervision.laboratory.simulation.scheduling.schedule import Policy, Scheduler
from supervision.laboratory.simulation.scheduling.trio_internals import scheduling
from supervision.laboratory.simulation.world.clock import Alarm, VirtualClock
from tests.patience import PATIENCE


async def race(count: int = 4) -> list[int]:
    ran: list[int] = []

    async def runner(number: int) -> None:
        await trio.sleep(1)
        ran.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(runner, number)
    return ran


def run(
    policy: Policy, seed: int = 0, deviations: Deviations | None = None
) -> tuple[list[int], Scheduler]:
    scheduler = Scheduler(policy, random.Random(seed), deviations=deviations)
    with scheduling(scheduler):
        ran = trio.run(race, clock=VirtualClock(), instruments=[scheduler])
    return ran, scheduler


def test_a_virtual_day_takes_no_real_time_and_is_exactly_a_day() -> None:
    async def main() -> float:
        for _ in range(24):
            await trio.sleep(3600)
        return trio.current_time()

    begin = time.perf_counter()
    assert trio.run(main, clock=VirtualClock()) == 86400.0
    assert time.perf_counter() - begin < PATIENCE


def test_every_moment_is_a_multiple_of_the_quantum_and_no_deadline_is_met_early() -> None:
    moments: list[tuple[float, float]] = []

    async def sleeper(seconds: float) -> None:
        await trio.sleep(seconds)
        moments.append((seconds, trio.current_time()))

    async def main() -> None:
        stream = random.Random(1)
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(sleeper, stream.random())

    trio.run(main, clock=VirtualClock(quantum=0.02))
    assert all(now >= seconds for seconds, now in moments)
    assert len({now for _, now in moments}) <= 51
    assert all(abs(now / 0.02 - round(now / 0.02)) < 1e-9 for _, now in moments)


def test_a_negative_quantum_is_refused() -> None:
    with pytest.raises(ValueError, match="number of seconds, 0 or more"):
        VirtualClock(-1)


def test_a_clock_without_deadlines_calls_stuck() -> None:
    scope = trio.CancelScope()

    async def main() -> None:
        with scope:
            await trio.sleep_forever()

    trio.run(main, clock=VirtualClock(stuck=scope.cancel))
    assert scope.cancelled_caught


def test_the_canonical_order_is_the_order_of_spawning() -> None:
    assert run("canonical")[0] == [0, 1, 2, 3]


def test_seeds_reach_every_order_and_a_seed_always_gives_the_same_order() -> None:
    orders = {seed: tuple(run("seeded", seed)[0]) for seed in range(150)}
    assert len(set(orders.values())) == 24
    assert all(tuple(run("seeded", seed)[0]) == orders[seed] for seed in range(10))


def test_a_seeded_run_is_the_canonical_run_with_its_deviations() -> None:
    for seed in range(10):
        ran, scheduler = run("seeded", seed)
        again, repeated = run("canonical", deviations=scheduler.taken)
        assert again == ran
        assert repeated.steps == scheduler.steps


def test_a_deviation_for_a_round_of_another_size_applies_to_the_tasks_it_finds() -> None:
    _, scheduler = run("canonical")
    number = max(scheduler.round - 1, 1)
    for rounds in range(1, number + 1):
        ran, _ = run("canonical", deviations={rounds: (9, 3, 1)})
        assert sorted(ran) == [0, 1, 2, 3]


def test_streams_do_not_depend_on_each_other() -> None:
    one, other = Streams(3), Streams(3)
    other.stream("crashes", "a", 1).random()
    assert one.stream("crashes", "b", 1).random() == other.stream("crashes", "b", 1).random()
    assert derive(3, "a", "b") != derive(3, "ab")
    assert derive(3, "a") != derive(4, "a")
    assert one.stream("x") is one.stream("x")
    assert one.fresh("x") is not one.fresh("x")


def test_the_seed_for_a_name_never_changes() -> None:
    assert derive(1, "network", 2) == 0x2A905EC539FE0AEA9C082BE5AA811079


def test_a_world_with_a_due_deadline_is_not_at_rest() -> None:
    asked: list[float] = []

    def settled() -> bool:
        asked.append(clock.now)
        return False

    clock = VirtualClock(settled=settled)
    clock.stall(2.0)
    assert clock.deadline_to_sleep_time(2.0) == 0.0
    assert asked == []
    clock.deadline_to_sleep_time(3.0)
    assert asked == [2.0]
    assert clock.now == 3.0


async def wait_for(clock: VirtualClock, time: float, ended: list[float]) -> None:
    await clock.alarm(time).wait()
    ended.append(trio.current_time())


def in_a_clock(main: Callable[[VirtualClock], Awaitable[None]]) -> None:
    clock = VirtualClock(stuck=lambda: pytest.fail("no task can run"))
    trio.run(main, clock, clock=clock)


def test_an_alarm_wakes_its_task_at_its_time() -> None:
    async def main(clock: VirtualClock) -> None:
        ended: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for, clock, 3.0, ended)
            nursery.start_soon(wait_for, clock, 1.0, ended)
            await trio.sleep(2)
            ended.append(trio.current_time())
        assert ended == [1.0, 2.0, 3.0]

    in_a_clock(main)


def test_an_alarm_rings_when_the_loop_was_stalled_beyond_its_time() -> None:
    async def main(clock: VirtualClock) -> None:
        ended: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for, clock, 1.0, ended)
            await trio.sleep(0.5)
            clock.stall(5)
        assert ended == [5.5]

    in_a_clock(main)


def test_an_alarm_that_something_else_answers_does_not_ring_again() -> None:
    async def main(clock: VirtualClock) -> None:
        alarms: list[Alarm] = []

        async def sleeper() -> None:
            alarms.append(clock.alarm(9.0))
            await alarms[0].wait()
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper)
            await trio.sleep(1)
            alarms[0].wake()
            alarms[0].wake()
            await trio.sleep(20)
            nursery.cancel_scope.cancel()

    in_a_clock(main)


def test_a_time_limit_at_the_same_moment_comes_before_an_alarm() -> None:
    async def main(clock: VirtualClock) -> None:
        ended: list[float] = []
        with trio.move_on_after(2) as scope:
            await wait_for(clock, 2.0, ended)
        assert scope.cancelled_caught
        assert not ended
        assert trio.current_time() == 2.0
        await trio.sleep(1)

    in_a_clock(main)


def test_an_alarm_rings_on_time_if_the_limit_around_it_was_put_off() -> None:
    async def main(clock: VirtualClock) -> None:
        ended: list[float] = []
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(2) as scope:

                async def put_off() -> None:
                    await trio.sleep(1)
                    scope.deadline = 100.0

                nursery.start_soon(put_off)
                await wait_for(clock, 2.0, ended)
        assert ended == [2.0]

    in_a_clock(main)


def test_no_alarm_of_a_dead_task_holds_the_time() -> None:
    async def main(clock: VirtualClock) -> None:
        dead: set[trio.lowlevel.Task] = set()
        clock.dead = dead
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for, clock, 3.0, [])
            await trio.sleep(1)
            dead.update(nursery.child_tasks)
            await trio.sleep(4)
            assert clock.jumps == 2
            nursery.cancel_scope.cancel()

    in_a_clock(main)


def in_the_same_order(ran: list[list[int]], rounds: int) -> bool:
    """Return True if the tasks 0 and 1 kept one order for some consecutive rounds."""
    firsts = [each.index(0) < each.index(1) for each in ran]
    return any(len(set(firsts[n : n + rounds])) == 1 for n in range(len(firsts) - rounds + 1))


def rounds_of(policy: Policy, seed: int, change: float) -> list[list[int]]:
    """Run twenty tasks for thirty rounds. Return the order of the tasks in each round."""
    ran: list[list[int]] = [[] for _ in range(30)]

    async def runner(number: int) -> None:
        for rounds in ran:
            await trio.sleep(1)
            rounds.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(runner, number)

    scheduler = Scheduler(policy, random.Random(seed), change=change)
    with scheduling(scheduler):
        trio.run(main, clock=VirtualClock(), instruments=[scheduler])
    return ran


def test_priorities_keep_an_order_for_many_rounds_and_a_shuffle_seldom_does() -> None:
    policies: tuple[tuple[Policy, float], ...] = (
        ("seeded", 0.1),
        ("pct", 0.03),
        ("reshuffle", 0.1),
    )
    found = {
        policy: sum(in_the_same_order(rounds_of(policy, seed, change), 8) for seed in range(20))
        for policy, change in policies
    }
    assert found["seeded"] < 5
    assert found["pct"] > 17
    assert found["reshuffle"] > 12


@pytest.mark.parametrize("policy", ["pct", "reshuffle"])
def test_priorities_change_during_a_run_and_a_seed_repeats_them(policy: Policy) -> None:
    ran = rounds_of(policy, 1, 0.1)
    assert 1 < len({tuple(each) for each in ran}) < 30
    assert all(sorted(each) == list(range(20)) for each in ran)
    assert ran == rounds_of(policy, 1, 0.1)
    assert ran != rounds_of(policy, 2, 0.1)
    still = rounds_of(policy, 1, 0.0)
    assert len({tuple(each) for each in still}) == 1


def test_a_trio_run_in_another_thread_does_not_use_the_schedule_of_a_simulation() -> None:
    async def checkpoints() -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()

    async def main(other: bool) -> None:
        if other:
            thread = threading.Thread(target=trio.run, args=(checkpoints,))
            thread.start()
            thread.join()
        await race()

    def simulated(other: bool) -> tuple[list[int], int, int]:
        looks = 0

        def between(batch: list[trio.lowlevel.Task]) -> None:
            nonlocal looks
            looks += 1

        scheduler = Scheduler("seeded", random.Random(1), between=between)
        with scheduling(scheduler):
            trio.run(main, other, clock=VirtualClock(), instruments=[scheduler])
        return list(scheduler.steps), scheduler.round, looks

    assert simulated(True) == simulated(False)
