"""The private names of Trio that simulations use still work as expected."""

import trio
import trio.testing
from trio import _threads as threads_module
from trio._core import _run as run_module
from trio.lowlevel import RunVar

from supervision.laboratory.simulation.scheduling.trio_internals import (
    make_ready,
    scheduling,
    silence,
    thread_starts,
)


class Recorder:
    """An order that does not change rounds."""

    def __init__(self, *, reverse: bool) -> None:
        self.reverse = reverse
        self.rounds: list[list[str]] = []

    def shuffle(self, batch: list[trio.lowlevel.Task], /) -> None:
        self.rounds.append([task.name for task in batch])
        if self.reverse:
            batch.reverse()

    def random(self) -> float:
        raise AssertionError("rounds are sorted, so nothing is flipped")

    def uniform(self, low: float, high: float, /) -> float:
        return low


async def three_tasks() -> list[int]:
    ran: list[int] = []

    async def step(number: int) -> None:
        await trio.lowlevel.checkpoint()
        ran.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(step, number)
    return ran


def test_trio_passes_a_round_in_the_order_of_spawning_and_runs_it_from_its_end() -> None:
    with scheduling(Recorder(reverse=True)):
        assert trio.run(three_tasks) == [0, 1, 2]
    with scheduling(Recorder(reverse=False)):
        assert trio.run(three_tasks) == [2, 1, 0]


def test_every_task_of_a_round_is_in_the_batch() -> None:
    order = Recorder(reverse=True)
    with scheduling(order):
        trio.run(three_tasks)
    assert max(map(len, order.rounds)) == 3


def test_tasks_that_were_woken_in_the_order_of_a_set_are_sorted() -> None:
    async def main() -> list[int]:
        woken: list[int] = []
        event = trio.Event()

        async def wait(number: int) -> None:
            await event.wait()
            woken.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(wait, number)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            event.set()
        return woken

    with scheduling(Recorder(reverse=True)):
        assert trio.run(main) == list(range(50))


def test_a_task_that_was_taken_out_of_a_batch_runs_when_it_is_put_back() -> None:
    held: list[trio.lowlevel.Task] = []
    ran: list[float] = []

    class Holding(Recorder):
        def shuffle(self, batch: list[trio.lowlevel.Task], /) -> None:
            held.extend(task for task in batch if task.name == "late")
            batch[:] = [task for task in batch if task.name != "late"]

    async def late() -> None:
        ran.append(trio.current_time())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(late, name="late")
            await trio.sleep(5)
            (task,) = held
            task.name = "on time"
            make_ready(held)

    with scheduling(Holding(reverse=True)):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert ran == [5.0]


def test_the_private_names_are_restored() -> None:
    before = (vars(run_module).copy(), vars(threads_module).copy())
    with scheduling(Recorder(reverse=True)), thread_starts(print, print, print):
        assert vars(run_module) != before[0]
        assert vars(threads_module) != before[1]
    assert (vars(run_module), vars(threads_module)) == before


def test_trio_starts_every_thread_through_the_private_name() -> None:
    started: list[str] = []

    def start(function: object, deliver: object, name: str) -> None:
        started.append(name)
        raise NotImplementedError

    async def main() -> None:
        for blocking in (
            lambda: trio.to_thread.run_sync(print),
            lambda: trio.socket.getaddrinfo("localhost", 80),
            lambda: trio.Path("/").stat(),
        ):
            try:
                await blocking()
            except NotImplementedError:
                continue
            raise AssertionError("a thread was started")

    with thread_starts(start, print, RunVar("limiter")):
        trio.run(main)
    assert len(started) == 3


def test_trio_neither_cancels_a_silenced_task_nor_waits_for_its_deadlines() -> None:
    called: list[int] = []

    async def waits(number: int) -> None:
        def cancelled(_: object) -> trio.lowlevel.Abort:
            called.append(number)
            return trio.lowlevel.Abort.SUCCEEDED

        with trio.CancelScope(deadline=trio.current_time() + 50), trio.move_on_after(40):
            await trio.lowlevel.wait_task_rescheduled(cancelled)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + 60
            async with trio.open_nursery() as inner:
                for number in range(3):
                    inner.start_soon(waits, number)
                await trio.testing.wait_all_tasks_blocked()
                silenced = [task for task in inner.child_tasks if "waits" in task.name][:2]
                silence(silenced, nursery.cancel_scope)
                left = trio.lowlevel.current_statistics().seconds_to_next_deadline
                assert 39 < left < 40
                silence(inner.child_tasks - set(silenced), nursery.cancel_scope)
                left = trio.lowlevel.current_statistics().seconds_to_next_deadline
                assert 59 < left < 60
                nursery.cancel_scope.cancel()
                await trio.lowlevel.cancel_shielded_checkpoint()
                for task in inner.child_tasks:
                    trio.lowlevel.reschedule(task)

    trio.run(main)
    assert called == []
