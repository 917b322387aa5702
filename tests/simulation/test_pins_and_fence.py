"""Pins and fence: sources of entropy follow the seed, or raise an error with advice."""

# These tests read the wall clock, with a look-up at the time of the call.
# ruff: noqa: DTZ002, DTZ003, DTZ005, DTZ011, PLW0108

import datetime as dt
import importlib
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable
from datetime import date as imported_date
from datetime import datetime as imported_datetime
from email.utils import formatdate
from pathlib import Path
from time import time as imported_time
from types import ModuleType
from typing import Any

import pytest
import trio
import wsproto.handshake
from hypercorn.config import Config

from supervision.laboratory.entropy import Streams
from supervision.laboratory.simulation.errors import Escape
from supervision.laboratory.simulation.pins.fence import fence
from supervision.laboratory.simulation.pins.pins import pinned
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate


def unexpected(escape: Escape) -> None:
    pytest.fail(str(escape))


NOW = 1_700_000_000.25


def draw_everything() -> list[object]:
    return [
        os.urandom(8),
        secrets.token_hex(8),
        uuid.uuid4(),
        uuid.uuid1(),
        random.random(),
        random.Random().random(),
        random.SystemRandom().random(),
        wsproto.handshake.generate_nonce() if hasattr(wsproto.handshake, "generate_nonce") else b"",
    ]


def drawn(seed: int) -> list[object]:
    with pinned(Streams(seed), lambda: NOW, unexpected):
        return draw_everything()


def test_all_random_numbers_come_from_the_seed() -> None:
    assert drawn(1) == drawn(1)
    for one, other in zip(drawn(1)[:7], drawn(2)[:7], strict=True):
        assert one != other


def test_the_pins_restore_everything() -> None:
    before = (os.urandom, uuid.uuid1, time.time, dt.datetime, imported_time)
    state, seed = random.getstate(), random.Random.seed
    drawn(1)
    assert (os.urandom, uuid.uuid1, time.time, dt.datetime, imported_time) == before
    assert random.getstate() == state
    assert random.Random.seed is seed
    assert draw_everything()[:7] != draw_everything()[:7]


def test_libraries_get_the_virtual_time_from_names_that_they_imported() -> None:
    with pinned(Streams(1), lambda: NOW, unexpected):
        headers = Config().response_headers("h11")
        written = formatdate(usegmt=True)
    assert (b"date", b"Tue, 14 Nov 2023 22:13:20 GMT") in headers
    assert written == "Tue, 14 Nov 2023 22:13:20 GMT"


READS: dict[str, Callable[[], object]] = {
    "time.time()": lambda: time.time(),
    "time.time_ns()": lambda: time.time_ns(),
    "time.monotonic()": lambda: time.monotonic(),
    "time.perf_counter()": lambda: time.perf_counter(),
    "time.process_time()": lambda: time.process_time(),
    "time.thread_time_ns()": lambda: time.thread_time_ns(),
    "time.clock_gettime()": lambda: time.clock_gettime(time.CLOCK_REALTIME),
    "time.clock_gettime_ns()": lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC),
    "time.localtime()": lambda: time.localtime(),
    "time.gmtime()": lambda: time.gmtime(None),
    "time.ctime()": lambda: time.ctime(),
    "time.asctime()": lambda: time.asctime(),
    "time.strftime()": lambda: time.strftime("%H:%M"),
    "datetime.now()": lambda: dt.datetime.now(),
    "datetime.utcnow()": lambda: dt.datetime.utcnow(),
    "datetime.today()": lambda: dt.datetime.today(),
    "date.today()": lambda: dt.date.today(),
}


@pytest.mark.parametrize("what", READS)
def test_a_program_that_reads_the_wall_clock_gets_an_escape_with_the_place_and_the_correction(
    what: str,
) -> None:
    escapes: list[Escape] = []
    with pinned(Streams(1), lambda: NOW, escapes.append), pytest.raises(Escape) as caught:
        READS[what]()
    assert escapes == [caught.value]
    assert caught.value.what == what
    assert "simulation/test_pins_and_fence.py" in caught.value.place
    advice = str(caught.value)
    assert any(each in advice for each in ("current_time()", "now()", "leave it out"))


def test_a_program_gets_an_escape_from_names_that_it_imported() -> None:
    for read in (lambda: imported_time(), lambda: imported_datetime.now(), imported_date_today):
        with pinned(Streams(1), lambda: NOW, lambda _: None), pytest.raises(Escape):
            read()


def imported_date_today() -> object:
    return imported_date.today()


def test_pinned_dates_differ_from_real_ones_only_in_the_present() -> None:
    with pinned(Streams(1), lambda: NOW, unexpected):
        made = dt.datetime(2020, 1, 2, tzinfo=dt.UTC)
        parsed = dt.datetime.fromisoformat("2020-01-02T00:00:00+00:00")
        assert isinstance(made, dt.datetime)
        assert isinstance(made, dt.date)
        assert dt.date(2020, 1, 2) == made.date()
    assert type(made) is type(parsed) is dt.datetime
    assert made == parsed


def test_conversions_of_a_given_time_are_unchanged() -> None:
    with pinned(Streams(1), lambda: NOW, unexpected):
        moment = time.gmtime(NOW)
        assert time.strftime("%Y-%m-%d", moment) == "2023-11-14"
        assert time.asctime(moment) == "Tue Nov 14 22:13:20 2023"
        assert time.localtime(0).tm_year in (1969, 1970)
        assert time.ctime(NOW).endswith("2023")


LIBRARY = """
import time
from time import strftime

def read():
    return (
        time.time(), time.localtime()[:6], time.gmtime()[:6], time.ctime(), time.asctime(), strftime("%H:%M:%S"),
        time.clock_gettime(time.CLOCK_REALTIME), time.process_time_ns(),
    )
"""


def library(monkeypatch: pytest.MonkeyPatch, text: str) -> Any:
    """Return a module that counts as a library, because its file is in site-packages."""
    module = ModuleType("a_library")
    file = f"{sysconfig.get_path('purelib')}/a_library.py"
    module.__file__ = file
    exec(compile(text, file, "exec"), vars(module))  # the text is above
    monkeypatch.setitem(sys.modules, "a_library", module)
    return module


def test_libraries_get_the_virtual_time_from_all_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    read = library(monkeypatch, LIBRARY).read
    with pinned(Streams(1), lambda: NOW, unexpected):
        seen = read()
    fields = (2023, 11, 14, 22, 13, 20)
    text = "Tue Nov 14 22:13:20 2023"
    assert seen == (NOW, fields, fields, text, text, "22:13:20", NOW, round(NOW * 1e9))
    assert read()[0] > NOW + 1_000


generator = random.Random(42)


def test_a_generator_in_a_global_follows_the_seed_and_is_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = library(monkeypatch, "import random\nrng = random.Random()")
    state = generator.getstate()

    def numbers(seed: int) -> tuple[float, float]:
        with pinned(Streams(seed), lambda: NOW, unexpected):
            return generator.random(), elsewhere.rng.random()

    assert numbers(1) == numbers(1) != numbers(2)
    assert len({*numbers(1), *numbers(2)}) == 4
    assert generator.getstate() == state


class RandomState:
    """A stand-in for numpy's class, with only the methods that the pins use."""

    def __init__(self) -> None:
        self.state: object = "before"

    def seed(self, seed: int) -> None:
        self.state = seed

    def get_state(self) -> object:
        return self.state

    def set_state(self, state: object) -> None:
        self.state = state


def test_the_functions_of_numpy_random_follow_the_seed_and_are_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = RandomState()
    module = ModuleType("numpy.random")
    vars(module).update(seed=shared.seed, get_state=shared.get_state, set_state=shared.set_state)
    monkeypatch.setitem(sys.modules, "numpy.random", module)

    def seeded(seed: int) -> object:
        with pinned(Streams(seed), lambda: NOW, unexpected):
            return shared.state

    assert seeded(1) == seeded(1) != seeded(2)
    assert shared.state == "before"


def test_another_thread_sees_the_real_clock_and_may_sleep() -> None:
    seen: list[float] = []

    def look() -> None:
        time.sleep(0)
        seen.append(time.time())
        socket.socket().close()

    thread = threading.Thread(target=look)
    with pinned(Streams(1), lambda: NOW, unexpected):
        thread.start()
        thread.join()
        with fence(unexpected):
            pass
    assert seen[0] > NOW + 1_000


FENCED: dict[str, Callable[[], object]] = {
    "a socket": lambda: socket.socket(),
    "a name look-up": lambda: socket.getaddrinfo("localhost", 80),
    "another program": lambda: subprocess.run(["true"], check=False),
    "os.system()": lambda: os.system("true"),
    "os.fork()": lambda: os.fork(),
    "a thread": lambda: threading.Thread(target=print).start(),
    "time.sleep()": lambda: time.sleep(0),
}


@pytest.mark.parametrize("what", FENCED)
def test_an_access_to_the_real_world_is_an_escape(what: str) -> None:
    escapes: list[Escape] = []
    with (
        pinned(Streams(1), lambda: NOW, unexpected),
        fence(escapes.append),
        pytest.raises(Escape) as caught,
    ):
        FENCED[what]()
    assert escapes == [caught.value]
    assert caught.value.what == what
    assert "simulation/test_pins_and_fence.py" in caught.value.place
    assert FENCED[what] is not None
    FENCED["time.sleep()"]()


def test_a_thread_of_trio_is_stopped_where_the_program_asks_for_it() -> None:
    async def main() -> None:
        with fence(lambda _: None):
            await trio.to_thread.run_sync(print)

    with pytest.raises(Escape) as caught:
        trio.run(main)
    assert "test_a_thread_of_trio" in caught.value.place


def test_a_module_imported_in_a_simulation_has_the_real_functions_afterwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = "from os import urandom\nfrom time import sleep, time\nfrom datetime import datetime\n"
    (tmp_path / "imported_late.py").write_text(names)
    monkeypatch.syspath_prepend(tmp_path)

    async def scenario(world: World) -> None:
        late = importlib.import_module("imported_late")
        world.note(late.urandom(8).hex())

    try:
        first = simulate(scenario, 1).check()
        late = sys.modules["imported_late"]
        assert (late.urandom, late.time, late.datetime) == (os.urandom, time.time, dt.datetime)
        late.sleep(0)
        assert simulate(scenario, 1).check().digest == first.digest
    finally:
        sys.modules.pop("imported_late", None)


def test_outside_the_fence_everything_works() -> None:
    with fence(unexpected):
        pass
    socket.socket().close()
    thread = threading.Thread(target=time.sleep, args=(0,))
    thread.start()
    thread.join()


def test_a_warning_of_a_run_is_not_written_if_logging_is_not_configured(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scenario(world: World) -> None:
        logging.getLogger("somebody").warning("lost %d messages", 3)

    # As in a program: pytest has configured it.
    monkeypatch.setattr(logging.root, "handlers", [])
    simulate(scenario, 1).check()
    assert capfd.readouterr().err == ""
    logging.getLogger("somebody").warning("again")
    assert capfd.readouterr().err == "again\n"
