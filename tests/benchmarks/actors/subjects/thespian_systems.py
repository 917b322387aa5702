"""Thespian in two of its systems: everything in the caller's thread, and a process for each actor.

Of the systems with processes UDP is the fastest. A call is an `ask` from outside, a cast a `tell`. An actor whose
code raises is not restarted but given the message again, so there is nothing to compare a restart with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thespian.actors import (  # type: ignore[import-not-found]  # it lives in the environment of the benchmark
    Actor,
    ActorSystem,
)

from tests.benchmarks.actors.clock import batches, seconds_each
from tests.benchmarks.actors.subject import Case, Fill, Subject

CAST = "cast"


class Echo(Actor):  # type: ignore[misc]
    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802 - its name
        if message != CAST and isinstance(message, str | int):
            self.send(sender, message)


def calls(system: Any, count: int) -> list[float]:
    actor = system.createActor(Echo)

    def run() -> None:
        for number in range(count):
            system.ask(actor, number)

    return seconds_each(count, run)


def casts(system: Any, count: int) -> list[float]:
    actor = system.createActor(Echo)

    def run() -> None:
        for batch in batches(count):
            for _ in range(batch):
                system.tell(actor, CAST)
            system.ask(actor, 0)

    return seconds_each(count, run)


def starts(system: Any, count: int) -> list[float]:
    def run() -> None:
        for _ in range(count):
            actor = system.createActor(Echo)
        system.ask(actor, 0)

    return seconds_each(count, run)


def subject(base: str, name: str, callee: str, *, apart: bool, most: int) -> Subject:
    def in_system(scenario: Callable[[Any, int], list[float]]) -> Case:
        def case(count: int) -> list[float]:
            system = ActorSystem(base, transientUnique=True)
            try:
                return scenario(system, count)
            finally:
                system.shutdown()

        return case

    def fill(count: int, weigh: Callable[[], None]) -> None:
        def scenario(system: Any, count: int) -> list[float]:
            for _ in range(count):
                actor = system.createActor(Echo)
            system.ask(actor, 0)
            weigh()
            return []

        in_system(scenario)(count)

    filled: Fill = fill
    return Subject(
        name=name,
        callee=callee,
        apart=apart,
        cases={"call": in_system(calls), "cast": in_system(casts), "start": in_system(starts)},
        fill=filled,
        most=most,
    )
