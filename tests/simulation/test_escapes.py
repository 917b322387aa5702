"""A scenario that reaches outside of the simulation is stopped with advice."""

# These tests do the things that a simulation forbids.
# ruff: noqa: ASYNC251, DTZ005

import datetime as dt
import os
import queue
import select
import selectors
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from time import sleep as imported_sleep
from typing import Any

import pytest
import trio

from actors import GenServer, cast
from supervision import Supervisor, child_spec
from supervision.laboratory.simulation.errors import Escape, SimulationFailed
from supervision.laboratory.simulation.simulate import Scenario
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate


async def opens_a_socket(world: World) -> None:
    socket.socket()


async def connects(world: World) -> None:
    await trio.open_tcp_stream("localhost", 80)


async def listens(world: World) -> None:
    await trio.open_tcp_listeners(0)


async def reads_the_time_of_day(world: World) -> None:
    time.time()


async def reads_a_date(world: World) -> None:
    dt.datetime.now()


async def measures(world: World) -> None:
    time.monotonic()


async def starts_a_thread(world: World) -> None:
    threading.Thread(target=print).start()


async def starts_a_pool(world: World) -> None:
    ThreadPoolExecutor().submit(print)


async def looks_up_a_name(world: World) -> None:
    await trio.socket.getaddrinfo("localhost.example", 80)


async def runs_a_program(world: World) -> None:
    await trio.run_process(["true"])


async def forks(world: World) -> None:
    os.fork()


async def sleeps(world: World) -> None:
    time.sleep(1)


async def sleeps_by_an_imported_name(world: World) -> None:
    imported_sleep(1)


async def gets_from_a_queue(world: World) -> None:
    queue.Queue[int]().get(timeout=0.01)


async def gets_from_a_simple_queue(world: World) -> None:
    queue.SimpleQueue[int]().get(timeout=0.01)


async def waits_for_an_event(world: World) -> None:
    threading.Event().wait(0.01)


async def waits_for_a_condition(world: World) -> None:
    condition = threading.Condition()
    condition.acquire()
    condition.wait(0.01)


async def takes_a_semaphore(world: World) -> None:
    threading.Semaphore(0).acquire(timeout=0.01)


async def waits_for_a_future(world: World) -> None:
    Future[int]().result(0.01)


async def takes_a_lock_twice(world: World) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=0.01)


async def takes_a_lock_of_the_module(world: World) -> None:
    with LOCK:
        LOCK.acquire(timeout=0.01)


async def selects(world: World) -> None:
    select.select([], [], [], 0.01)


async def polls(world: World) -> None:
    select.poll().poll(1)


async def uses_a_selector(world: World) -> None:
    selectors.SelectSelector().select(0.01)


LOCK = threading.Lock()
WAITS = "wait with Trio"

ESCAPES = {
    sleeps_by_an_imported_name: ("time.sleep()", "await trio.sleep"),
    gets_from_a_queue: ("queue.Queue.get()", WAITS),
    gets_from_a_simple_queue: ("queue.SimpleQueue.get()", WAITS),
    waits_for_an_event: ("threading.Event.wait()", WAITS),
    takes_a_semaphore: ("threading.Semaphore.acquire()", WAITS),
    waits_for_a_future: ("concurrent.futures._base.Future.result()", WAITS),
    selects: ("select.select()", WAITS),
    polls: ("select.poll()", WAITS),
    uses_a_selector: ("selectors.SelectSelector.select()", WAITS),
    opens_a_socket: ("a socket", "world.network.connect"),
    connects: ("a name look-up", "world.network.connect"),
    listens: ("a name look-up", "listen=world.network.open"),
    reads_the_time_of_day: ("time.time()", "current_runtime().now()"),
    reads_a_date: ("datetime.now()", "current_runtime().now()"),
    measures: ("time.monotonic()", "trio.current_time()"),
    starts_a_thread: ("a thread", "call the function directly"),
    starts_a_pool: ("a thread", "call the function directly"),
    looks_up_a_name: ("a name look-up", "world.network"),
    runs_a_program: ("another program", "before the simulation"),
    forks: ("os.fork()", "before the simulation"),
    sleeps: ("time.sleep()", "await trio.sleep"),
}


@pytest.mark.parametrize("scenario", ESCAPES, ids=lambda each: each.__name__)
def test_an_escape_names_the_use_the_place_and_the_alternative(scenario: object) -> None:
    what, instead = ESCAPES[scenario]  # type: ignore[index]
    outcome = simulate(scenario, seed=7)  # type: ignore[arg-type]
    error = outcome.error
    assert isinstance(error, Escape)
    assert error.what == what
    assert instead in error.instead
    line = scenario.__code__.co_firstlineno + 1  # type: ignore[attr-defined]
    name = scenario.__name__  # type: ignore[attr-defined]
    assert error.place == f"simulation/test_escapes.py:{line} in {name}"
    with pytest.raises(SimulationFailed, match=f"failed with seed 7: Escape: .*{name} uses "):
        outcome.check()


@pytest.mark.parametrize(
    ("scenario", "what"),
    [
        (waits_for_a_condition, "threading.Condition.wait()"),
        (takes_a_lock_twice, "threading.Lock.acquire()"),
        (takes_a_lock_of_the_module, "threading.Lock.acquire()"),
    ],
)
def test_a_wait_for_a_lock_is_an_escape(scenario: Scenario, what: str) -> None:
    error = simulate(scenario, seed=7).error
    assert isinstance(error, Escape)
    assert error.what == what
    assert WAITS in error.instead
    assert scenario.__name__ in error.place


def test_operations_that_do_not_wait_are_allowed_and_everything_works_afterwards() -> None:
    made: list[Any] = []

    async def scenario(world: World) -> None:
        numbers: queue.Queue[int] = queue.Queue()
        numbers.put(1)
        assert numbers.get() == 1
        with pytest.raises(queue.Empty):
            numbers.get(block=False)
        simple: queue.SimpleQueue[int] = queue.SimpleQueue()
        simple.put(2)
        assert simple.get() == 2
        lock = threading.Lock()
        with lock, LOCK:
            assert lock.locked()
            assert not lock.acquire(blocking=False)
        assert not threading.Event().wait(0)
        assert select.select([], [], [], 0) == ([], [], [])
        made.extend([lock, numbers, simple])

    simulate(scenario, seed=7).check()
    lock, numbers, simple = made
    with lock:
        assert not lock.acquire(timeout=0.001)
    for each in (numbers, simple):
        with pytest.raises(queue.Empty):
            each.get(timeout=0.001)
    assert type(LOCK) is type(threading.Lock())


class Impatient(GenServer[None]):
    async def handle_cast(self, message: object) -> None:
        try:
            time.monotonic()
        except Exception:  # a program that hides it
            return


def test_an_escape_that_the_program_catches_still_fails_the_run() -> None:
    async def scenario(world: World) -> None:
        await Supervisor.start_link([child_spec(Impatient, kwargs={"name": "impatient"})])
        cast("impatient", "hurry")
        await trio.sleep(10)

    outcome = simulate(scenario, seed=1)
    assert isinstance(outcome.error, Escape)
    assert "Impatient.handle_cast" in outcome.error.place
    assert outcome.seconds < 10
