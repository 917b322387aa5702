"""Pykka: an actor is a thread, and a call is an `ask` that waits for a future.

There is no supervision, so nothing to compare a restart with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka  # type: ignore[import-not-found]  # it lives in the environment of the benchmark

from tests.benchmarks.actors.clock import batches, seconds_each
from tests.benchmarks.actors.subject import Subject


class Echo(pykka.ThreadingActor):  # type: ignore[misc]
    def on_receive(self, message: Any) -> Any:
        return message


def calls(count: int) -> list[float]:
    actor = Echo.start()

    def run() -> None:
        for number in range(count):
            actor.ask(number)

    try:
        return seconds_each(count, run)
    finally:
        actor.stop()


def casts(count: int) -> list[float]:
    actor = Echo.start()

    def run() -> None:
        for batch in batches(count):
            for number in range(batch):
                actor.tell(number)
            actor.ask(None)

    try:
        return seconds_each(count, run)
    finally:
        actor.stop()


def starts(count: int) -> list[float]:
    def run() -> None:
        for _ in range(count):
            actor = Echo.start()
        actor.ask(None)

    try:
        return seconds_each(count, run)
    finally:
        pykka.ActorRegistry.stop_all()


def fill(count: int, weigh: Callable[[], None]) -> None:
    for _ in range(count):
        actor = Echo.start()
    actor.ask(None)
    weigh()
    pykka.ActorRegistry.stop_all()


SUBJECT = Subject(
    name="pykka",
    callee="own thread",
    cases={"call": calls, "cast": casts, "start": starts},
    fill=fill,
    most=500,
)
