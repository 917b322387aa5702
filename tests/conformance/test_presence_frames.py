"""Replay the presence frames of a real Phoenix server, against a running endpoint and clients in memory.

`tests/data/presence.json` holds the answers of Phoenix 1.8.12, in the notation of `test_session_frames`. Refs and times
differ in each run, so they are replaced by their numbers. A client gets its `presence_state` and the diff of its own
join in either order: the recording has both orders.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import open_runtime
from examples.conformance import endpoint
from tests.channels.support import EOF, Server, run_on_virtual_clock
from tests.conformance.test_session_frames import connect, frame, normal

FRAMES = Path(__file__).parents[1] / "data" / "presence.json"
SCENARIOS: list[dict[str, Any]] = json.loads(FRAMES.read_text(encoding="utf-8"))

_REF = re.compile(r'"phx_ref": "([^"]*)"')
_TIME = re.compile(r'"online_at": \d+')


class Names:
    """Numbers for the refs of one run, in the order in which clients first see them."""

    def __init__(self) -> None:
        self.refs: dict[str, str] = {}

    def __call__(self, line: str) -> str:
        text = _TIME.sub('"online_at": 0', normal(line))
        return _REF.sub(
            lambda found: f'"phx_ref": "{self.refs.setdefault(found[1], str(len(self.refs)))}"',
            text,
        )


async def replay(scenario: dict[str, Any]) -> list[list[str]]:
    async with open_runtime(log=False) as runtime:
        server = Server(endpoint, runtime, await endpoint.start_link(port=None))
        clients = {name: await connect(server, "2.0.0") for name in "ab"}
        for client in clients.values():
            assert client.answer()
        answers = []
        for step in scenario["steps"]:
            (line,) = step["send"]
            client, text = clients[line[0]], line[3:]
            if text == "(socket closed)":
                client.end()
            else:
                client.write(frame(text))
            await trio.sleep(1.0)
            answers.append(
                [
                    f"{name} {each}"
                    for name, client in clients.items()
                    for each in client.frames()
                    if each != EOF
                ]
            )
        await server.stop()
        return answers


def in_order(lines: list[str]) -> list[str]:
    """Put a state before the diff that comes with it."""
    return sorted(lines, key=lambda line: (line[0], "presence_diff" in line))


@pytest.mark.trio(run=run_on_virtual_clock)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
async def test_a_recorded_exchange_about_presence_is_the_same(scenario: dict[str, Any]) -> None:
    ours, theirs = Names(), Names()
    answers = await replay(scenario)
    for step, answer in zip(scenario["steps"], answers, strict=True):
        if step["got"] is None:
            # The refs of this step are not known: both go on with new numbers.
            ours.refs, theirs.refs = {}, {}
        else:
            got = [ours(line) for line in in_order(answer)]
            assert got == [theirs(line) for line in in_order(step["got"])]
