"""A scenario that reaches outside of the simulation is stopped with advice."""

# These tests do the things that a simulation forbids.
# ruff: noqa: ASYNC251, DTZ005

import datetime as dt
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from actors import GenServer, cast
from supervision import Supervisor, child_spec
from supervision.simulation.errors import Escape, SimulationFailed
from supervision.simulation.simulate import simulate
from supervision.simulation.world.world import World


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


async def hands_to_a_thread(world: World) -> None:
    await trio.to_thread.run_sync(print)


async def opens_a_file(world: World) -> None:
    await trio.open_file(__file__)


async def looks_at_a_path(world: World) -> None:
    await trio.Path(__file__).exists()


async def runs_a_program(world: World) -> None:
    await trio.run_process(["true"])


async def forks(world: World) -> None:
    os.fork()


async def sleeps(world: World) -> None:
    time.sleep(1)


ESCAPES = {
    opens_a_socket: ("a socket", "world.network.connect"),
    connects: ("a name look-up", "world.network.connect"),
    listens: ("a name look-up", "listen=world.network.open"),
    reads_the_time_of_day: ("time.time()", "current_runtime().now()"),
    reads_a_date: ("datetime.now()", "current_runtime().now()"),
    measures: ("time.monotonic()", "trio.current_time()"),
    starts_a_thread: ("a thread", "call the function directly"),
    starts_a_pool: ("a thread", "call the function directly"),
    hands_to_a_thread: ("a thread", "call the function directly"),
    opens_a_file: ("a file, for which Trio takes a thread", "plain open()"),
    looks_at_a_path: ("a file, for which Trio takes a thread", "plain open()"),
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
