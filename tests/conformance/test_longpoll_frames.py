"""Replay the answers of a real Phoenix server to a polling client, against the conformance application.

`tests/data/longpoll.json` holds one session of Phoenix 1.8.12, verbatim but for tokens: requests in their order, each
with the token of the session, with nonsense, or without one, and the HTTP status, type and body of what was answered.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from actors import open_runtime
from channels import Endpoint
from examples.conformance import endpoint as application
from tests.channels.polling import Poller
from tests.channels.support import Server, run_on_virtual_clock

EXCHANGES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "longpoll.json").read_text(encoding="utf-8")
)


async def answered(poller: Poller, exchange: dict[str, Any]) -> str:
    """One exchange, written down as the recording is."""
    tokens = {"session": poller.token if poller.tokens else "", "garbage": "garbage", None: ""}
    kind, body = exchange["type"], exchange["body"]
    answer = await poller.ask(
        exchange["method"],
        None if body is None else body.encode(),
        *([("content-type", kind)] if kind else []),
        token=tokens[exchange["token"]],
    )
    said = answer.body.decode()
    if not poller.tokens:
        poller.tokens.append(json.loads(said)["token"])
        said = said.replace(poller.token, "<new token>")
    said = re.sub(r'"token":"(?!<)[^"]*"', _token_of(poller), said)
    return f"HTTP:{answer.status}:{answer.headers.get('content-type')}:{said}"


def _token_of(poller: Poller) -> Any:
    def name(found: re.Match[str]) -> str:
        return '"token":"<token>"' if poller.token in found[0] else '"token":"<new token>"'

    return name


@pytest.mark.trio(run=run_on_virtual_clock)
async def test_a_recorded_session_is_the_same() -> None:
    async with open_runtime(log=False) as runtime:
        endpoint = Endpoint(sockets=application.sockets)
        server = Server(endpoint, runtime, await endpoint.start_link(port=None))
        pollers = {vsn: Poller(server, query=f"vsn={vsn}") for vsn in ("2.0.0", "9.0.0")}
        pollers["9.0.0"].tokens.append("none")
        got = [await answered(pollers[each["vsn"]], each) for each in EXCHANGES]
    assert got == [each["got"] for each in EXCHANGES]
