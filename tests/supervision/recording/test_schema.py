"""The schema lists the fields of every event that is recorded, and gives exits and messages their classes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from attrs import frozen

from actors import (
    KILLED,
    NOCONNECTION,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Agent,
    Crash,
    Down,
    Runtime,
    Shutdown,
    cast,
    send,
)
from actors.instrumentation.instrument import Instrument
from actors.messages import Exit
from actors.refs import Pid
from supervision.recording.schema import EVENTS, exit_class, kind_of, transport_of
from tests.laws.scenarios import simulate
from tests.simulation.chat_scenario import chat
from tests.simulation.fault_scenarios import echo, islands
from tests.simulation.node_scenarios import heartbeats
from tests.simulation.runtime_sweep import runtime_sweep

ALWAYS = {"n": int, "t": float, "round": int, "task": int, "kind": str}
SOMETIMES = {"node": int | str, "cause": int, "leaves": str, "arrives": str}


def check(event: dict[str, Any]) -> None:
    """Compare an event with the schema: no field is missing, unknown or of another type."""
    fields = EVENTS[event["kind"]]
    types = ALWAYS | SOMETIMES | {name.removesuffix("?"): kind for name, kind in fields.items()}
    required = {name for name in fields if not name.endswith("?") and name != "*"} | set(ALWAYS)
    assert required <= set(event), event
    for name, value in event.items():
        kind = types.get(name, fields.get("*"))
        assert kind is not None or name in types, (name, event)
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise AssertionError(f"{name} of {event}: {error}") from error


@pytest.mark.parametrize("scenario", [runtime_sweep, chat, heartbeats, echo, islands])
def test_every_recorded_event_fits_the_schema(scenario: Any) -> None:
    for seed in range(3):
        outcome = simulate(scenario, seed)
        assert outcome.trace
        for line in outcome.trace:
            check(msgspec.json.decode(line))


@frozen
class Order:
    event: str


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (NORMAL, "normal"),
        (SHUTDOWN, "shutdown"),
        (Shutdown("closed"), "shutdown_detail"),
        (KILLED, "killed"),
        (NOPROC, "noproc"),
        (NOCONNECTION, "noconnection"),
        (Crash(ValueError("no")), "crash"),
        ("bored", "other"),
        (None, "other"),
    ],
)
def test_every_exit_reason_has_a_class(reason: object, expected: str) -> None:
    assert exit_class(reason) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("stop", "stop"),
        (("join", 1), "join"),
        (((Order("say"), 1), 2), "say"),
        ((Order(7), 1), "Order"),  # type: ignore[arg-type]
        (b"\x81", "bytes"),
        ({"a": 1}, "dict"),
        ((), "tuple"),
        (None, "NoneType"),
        (["join"], "list"),
    ],
)
def test_a_message_has_the_kind_of_its_tag_its_event_or_its_class(
    message: object, expected: str
) -> None:
    assert kind_of(message) == expected


async def test_a_cast_has_the_kind_of_its_content(runtime: Runtime) -> None:

    class Sent(Instrument):
        def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
            kinds.append(kind_of(message))

    kinds: list[str] = []
    pid = await Agent.start(lambda: 0)
    runtime.add_instrument(Sent())
    cast(pid, ("join", 1))
    send(pid, "hello")
    assert kinds == ["join", "hello"]


def test_messages_of_the_runtime_are_told_from_those_of_processes() -> None:
    assert transport_of(Exit(pid=None, reason=NORMAL)) == "exit"  # type: ignore[arg-type]
    assert transport_of(Down(ref=None, pid=None, reason=NORMAL)) == "down"  # type: ignore[arg-type]
    assert transport_of("anything else") == "info"
