"""Randomness, identifiers and the time of day come from the environment that a runtime was opened in."""

import random
import time
import uuid

import pytest
import trio
import trio.testing

from actors import Pid, Runtime, open_runtime, spawn, wait_exit
from actors.runtime import Environment, current_environment


class Toy(Environment):
    """An environment with fixed values, and a stream of random numbers for each process."""

    def __init__(self) -> None:
        self.runtimes: list[Runtime] = []
        self.streams: dict[int, random.Random] = {}

    def opened(self, runtime: Runtime) -> None:
        assert not runtime.processes()
        self.runtimes.append(runtime)

    def random(self, process: Pid | None) -> random.Random:
        number = 0 if process is None else process.number
        return self.streams.setdefault(number, random.Random(number))

    def uuid(self, process: Pid | None) -> uuid.UUID:
        return uuid.UUID(int=0 if process is None else process.number)

    def now(self) -> float:
        return 1e9


async def test_the_default_environment_uses_the_operating_system() -> None:
    async with open_runtime() as runtime:
        assert runtime.random is runtime.random
        assert runtime.uuid() != runtime.uuid()
        assert runtime.uuid().version == 4
        assert abs(runtime.now() - time.time()) < 60


@pytest.mark.parametrize("seed", [None, 7])
async def test_a_seed_overrides_the_randomness_of_an_environment(
    seed: int | None,
) -> None:
    drawn: list[float] = []
    identifiers: list[uuid.UUID] = []

    async def draw(runtime: Runtime) -> None:
        drawn.append(runtime.random.random())
        identifiers.append(runtime.uuid())

    toy = Toy()
    token = current_environment.set(toy)
    try:
        async with open_runtime(seed=seed) as runtime:
            for _ in range(2):
                await wait_exit(spawn(draw, runtime))
            assert runtime.now() == 1e9
    finally:
        current_environment.reset(token)
    assert toy.runtimes == [runtime]
    assert identifiers == [uuid.UUID(int=1), uuid.UUID(int=2)]
    if seed is None:
        assert drawn == [random.Random(1).random(), random.Random(2).random()]
    else:
        stream = random.Random(seed)
        assert drawn == [stream.random(), stream.random()]


async def test_the_time_of_day_follows_a_virtual_clock_in_all_runtimes_on_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime() as runtime:
        before = runtime.now()
        assert abs(before - time.time()) < 60
        await trio.sleep(86_400)
        assert runtime.now() == pytest.approx(before + 86_400, abs=1e-3)
        async with open_runtime() as inner:
            assert inner.now() == runtime.now()
    async with open_runtime() as later:
        assert later.now() == pytest.approx(before + 86_400, abs=1e-3)


async def test_a_virtual_clock_does_not_replace_the_environment_of_a_simulation(
    autojump_clock: trio.testing.MockClock,
) -> None:
    token = current_environment.set(Toy())
    try:
        async with open_runtime() as runtime:
            await trio.sleep(10)
            assert runtime.now() == 1e9
    finally:
        current_environment.reset(token)
