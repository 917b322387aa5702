"""Replay the answers of a real Phoenix server, against a running endpoint and clients in memory.

`tests/data/frames.json` holds the answers of Phoenix 1.8.12, verbatim, to everything that needs
neither HTTP nor presence nor another version of the protocol. `T:` is a text message, `B:` a
binary one in hex, `U:` a text message in hex (for text that is not UTF-8), `CLOSE:` the close code
and reason, and `HTTP:` the refusal of a connection. Lines that start with `a: ` or `b: ` belong to
one of two clients. The lines of `before` are sent first, and their answers are not recorded.

The endpoint is the one of `examples/conformance.py`. Bytes go through its HTTP upgrade, its
WebSocket, its sessions and its channels; only the network is missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors import open_runtime
from channels import Endpoint
from examples.conformance import endpoint as application
from tests.channels.support import EOF, Client, Reader, Server, head, run_on_virtual_clock, settle
from tests.channels.transports.frames import BINARY, TEXT, client_frame

FRAMES = Path(__file__).parents[1] / "data" / "frames.json"
SCENARIOS: list[dict[str, Any]] = json.loads(FRAMES.read_text(encoding="utf-8"))

# Where Ashtree answers differently on purpose: Python's JSON codecs keep the last of several
# equal keys, Phoenix's keeps the first.
DIFFERENT = {
    "JSON: duplicate keys": [
        'T:["1","2","room:a","phx_reply",{"status":"ok","response":{"a":2}}]',
    ]
}


class Recorder(Reader):
    """Writes down the frames of a server in the notation of the recording."""

    def message(self, opcode: int, payload: bytes) -> str:
        if opcode == TEXT:
            return f"T:{payload.decode()}"
        if opcode == BINARY:
            return f"B:{payload.hex()}"
        assert opcode == 0x8, opcode
        return f"CLOSE:{int.from_bytes(payload[:2], 'big')}:{payload[2:].decode()}"


def frame(line: str) -> bytes:
    """The bytes of a WebSocket frame for one recorded line."""
    kind, _, digits = line.partition(":")
    if kind in ("B", "U"):
        return client_frame(BINARY if kind == "B" else TEXT, bytes.fromhex(digits))
    return client_frame(TEXT, line.encode())


async def connect(server: Server, vsn: str | list[str]) -> Client:
    query = f"vsn={vsn}" if isinstance(vsn, str) else f"vsn[]={vsn[0]}"
    client = await server.accept(Client(reader=Recorder()))
    client.write(head(f"/socket/websocket?{query}"))
    await settle()
    return client


async def replay(server: Server, scenario: dict[str, Any]) -> list[list[str]]:
    clients = {name: await connect(server, scenario["vsn"]) for name in ("a", "b")}
    answers = [client.answer() for client in clients.values()]
    if any(answer is None or answer.status != 101 for answer in answers):
        refused = [f"HTTP:{each.status}:{each.body.decode()}" for each in answers if each]
        return [refused[:1] for _ in scenario["steps"]]

    async def send(lines: list[str]) -> list[str]:
        two = any(line.startswith(("a: ", "b: ")) for line in lines)
        for line in lines:
            name, text = (line[0], line[3:]) if two else ("a", line)
            clients[name].write(frame(text))
        await settle()
        got = {
            name: [each for each in client.frames() if each != EOF]
            for name, client in clients.items()
        }
        if two:
            return [f"{name} {line}" for name, lines in got.items() for line in lines]
        assert not got["b"]
        return got["a"]

    await send(scenario["before"])
    return [await send(step["send"]) for step in scenario["steps"]]


async def answers_to(scenario: dict[str, Any]) -> list[list[str]]:
    async with open_runtime(log=False) as runtime:
        endpoint = Endpoint(sockets=application.sockets)
        server = Server(endpoint, runtime, await endpoint.start_link(port=None))
        return await replay(server, scenario)


def normal(line: str) -> str:
    """JSON with sorted keys: the order of keys means nothing."""
    before, mark, text = line.partition("T:")
    return before + mark + json.dumps(json.loads(text), sort_keys=True) if mark else line


@pytest.mark.trio(run=run_on_virtual_clock)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
async def test_a_recorded_exchange_is_the_same(scenario: dict[str, Any]) -> None:
    recorded = [[normal(line) for line in step["got"]] for step in scenario["steps"]]
    answered = [[normal(line) for line in lines] for lines in await answers_to(scenario)]
    if scenario["name"] in DIFFERENT:
        assert answered != recorded
        recorded = [[normal(line) for line in DIFFERENT[scenario["name"]]]]
    assert answered == recorded
