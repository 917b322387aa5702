"""The common parts of the experiments: a runtime on a virtual clock, a record of processes, and the command line."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import trio
import trio.testing
from attrs import define, evolve

from actors import KILLED, Crash, ExitReason, Instrument, Pid, current_runtime, open_runtime

__all__ = ["Life", "Lives", "report", "show", "virtual"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def virtual(
    experiment: Callable[Parameters, Awaitable[Result]],
    *args: Parameters.args,
    **kwargs: Parameters.kwargs,
) -> Result:
    """Run an experiment in its own runtime, on a clock that jumps to the next event. Do not log crashes."""

    async def run() -> Result:
        async with open_runtime(log=False):
            return await experiment(*args, **kwargs)

    return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


@define
class Life:
    """The life of one process.

    Attributes:
        name: its registered name.
        start: the second of its start.
        end: the second of its end; None if it is still alive.
        how: "alive", "crashed", "killed" or "stopped".
    """

    name: str
    start: float
    end: float | None = None
    how: str = "alive"


class Lives(Instrument):
    """The lives of the processes with certain names, in the order of their starts and ends.

    Attributes:
        order: the starts and ends, such as "stop c" and "start b".
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._lives: list[Life] = []
        self.order: list[str] = []
        self._begun = trio.current_time()
        self._living: dict[Pid, Life] = {}
        current_runtime().add_instrument(self)

    @property
    def lives(self) -> list[Life]:
        """A copy of the recorded lives so far, in the order of the names."""
        copies = [evolve(life) for life in self._lives]
        return sorted(copies, key=lambda life: (self.names.index(life.name), life.start))

    def registered(self, pid: Pid, key: object, registry: object) -> None:
        """Note a start."""
        if key in self.names:
            life = Life(str(key), trio.current_time() - self._begun)
            self._living[pid] = life
            self._lives.append(life)
            self.order.append(f"start {key}")

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        """Note an end."""
        life = self._living.pop(pid, None)
        if life is not None:
            life.end = trio.current_time() - self._begun
            is_crash = isinstance(reason, Crash)
            life.how = "crashed" if is_crash else "killed" if reason is KILLED else "stopped"
            self.order.append(f"{'crash' if is_crash else 'stop'} {life.name}")


def report(results: Mapping[str, object]) -> str:
    """Return one line for each result."""
    width = max(map(len, results)) + 1
    return "\n".join(f"{name + ':':{width}} {result}" for name, result in results.items())


def show(
    experiment: Callable[[], dict[str, Result]], picture: Callable[[dict[str, Result]], str]
) -> None:
    """Run an experiment from the command line: print its results, and write its picture with --svg."""
    parser = argparse.ArgumentParser(description="Run this experiment.")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the picture too")
    target = parser.parse_args().svg
    results = experiment()
    print(report(results))
    if target is not None:
        target.write_text(picture(results))
