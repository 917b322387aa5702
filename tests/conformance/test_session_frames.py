"""Replay what a real Phoenix server answered, against real sessions and fake channels.

`tests/data/frames.json` holds the answers of Phoenix 1.8.12, verbatim, to everything that needs
neither HTTP nor presence nor another version of the protocol. `T:` is a text message, `B:` a
binary one in hex, `U:` a text message in hex (for what is not UTF-8), `CLOSE:` the close code and
reason, and `HTTP:` the refusal of a connection. Lines that start with `a ` or `b ` belong to one
of two clients. What `before` lists is sent first and its answers are not recorded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from channels.serializers.serializer import DEFAULT_SERIALIZERS, negotiate
from tests.channels.fake_channels import FakeChannel, FakeConnection

FRAMES = Path(__file__).parents[1] / "data" / "frames.json"
SCENARIOS: list[dict[str, Any]] = json.loads(FRAMES.read_text(encoding="utf-8"))

# Where Ashtree answers differently on purpose: Python's JSON codecs keep the last of several
# equal keys, Phoenix's keeps the first.
DIFFERENT = {
    "JSON: duplicate keys": [
        'T:["1","2","room:a","phx_reply",{"status":"ok","response":{"a":2}}]',
    ]
}


def feed(connection: FakeConnection, line: str) -> None:
    kind, _, digits = line.partition(":")
    if kind in ("B", "U"):
        connection.feed(bytes.fromhex(digits), binary=kind == "B")
    else:
        connection.feed(line.encode())


def replay(scenario: dict[str, Any]) -> list[list[str]]:
    if negotiate(scenario["vsn"], DEFAULT_SERIALIZERS) is None:
        return [["HTTP:403:"] for _ in scenario["steps"]]
    subscribers: list[FakeChannel] = []
    clients = {name: FakeConnection(subscribers=subscribers) for name in ("a", "b")}

    def send(lines: list[str]) -> list[str]:
        two = any(line.startswith(("a: ", "b: ")) for line in lines)
        for line in lines:
            feed(clients[line[0]], line[3:]) if two else feed(clients["a"], line)
        for client in clients.values():
            client.settle()
        taken = {name: client.take() for name, client in clients.items()}
        if two:
            return [f"{name} {line}" for name, lines in taken.items() for line in lines]
        assert not taken["b"]
        return taken["a"]

    send(scenario["before"])
    return [send(step["send"]) for step in scenario["steps"]]


def normal(line: str) -> str:
    """JSON with sorted keys: the order of keys means nothing."""
    before, mark, text = line.partition("T:")
    return before + mark + json.dumps(json.loads(text), sort_keys=True) if mark else line


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_a_recorded_exchange_is_the_same(scenario: dict[str, Any]) -> None:
    recorded = [[normal(line) for line in step["got"]] for step in scenario["steps"]]
    answered = [[normal(line) for line in lines] for lines in replay(scenario)]
    if scenario["name"] in DIFFERENT:
        assert answered != recorded
        recorded = [[normal(line) for line in DIFFERENT[scenario["name"]]]]
    assert answered == recorded


def test_leave_and_rejoin_in_one_burst_may_also_be_answered_in_full() -> None:
    # A race in Phoenix: this is its other outcome, when the channel handles the leave in time.
    connection = FakeConnection()
    connection.feed(b'["1","1","room:a","phx_join",{}]')
    connection.settle()
    connection.take()
    connection.feed(b'["1","2","room:a","phx_leave",{}]')
    connection.session.memberships[0].process.step()
    connection.feed(b'["3","3","room:a","phx_join",{}]')
    connection.settle()
    assert connection.take() == [
        'T:["1","2","room:a","phx_reply",{"status":"ok","response":{}}]',
        'T:["1","1","room:a","phx_close",{}]',
        'T:["3","3","room:a","phx_reply",{"status":"ok","response":{}}]',
    ]
