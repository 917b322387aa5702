"""The standard error of an endpoint in another server, before and after `logging` is configured.

These tests run separate programs, because pytest configures `logging`.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.servers import ROOT

PROGRAM = """
import logging
import sys

import trio

from channels import ConnectRefused, Endpoint, Socket


class Careful(Socket):
    async def connect(self, params, connect_info):
        if "crash" in params:
            raise RuntimeError("no such table")
        raise ConnectRefused("no ticket")


async def main(query, origin):
    endpoint = Endpoint(sockets={"/socket": Careful})
    scope = {
        "type": "websocket",
        "path": "/socket/websocket",
        "query_string": query.encode(),
        "headers": [(b"host", b"here"), (b"origin", origin.encode())],
        "extensions": {"websocket.http.response": {}},
    }
    asked = [{"type": "websocket.connect"}]

    async def receive():
        return asked.pop() if asked else await trio.sleep_forever()

    async def send(message):
        if "status" in message:
            print(message["status"])

    async with endpoint.running():
        await endpoint(scope, receive, send)


if "--configured" in sys.argv:
    logging.basicConfig(level=logging.INFO)
trio.run(main, sys.argv[1], sys.argv[2])
"""


def said(query: str, origin: str, *options: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, query, origin, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("options", [(), ("--configured",)])
def test_a_refusal_by_connect_is_shown_once_logging_is_configured(options: tuple[str, ...]) -> None:
    status, log = said("vsn=2.0.0", "http://here", *options)
    assert status == "403"
    assert ("REFUSED CONNECTION TO Careful" in log) == bool(options)
    assert ("because 'no ticket'" in log) == bool(options)


@pytest.mark.parametrize(
    ("query", "origin", "status", "line"),
    [
        ("vsn=2.0.0", "http://elsewhere", "403", "that tried to connect to Careful"),
        ("vsn=9.0.0", "http://here", "403", "Careful refused a client: it asked for version"),
        ("vsn=2.0.0&crash=1", "http://here", "500", "RuntimeError: no such table"),
    ],
)
def test_warnings_are_shown_without_logging_configuration(
    query: str, origin: str, status: str, line: str
) -> None:
    told, log = said(query, origin)
    assert told == status
    assert line in log
