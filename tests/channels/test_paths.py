"""The paths of a push and of a crash, as docs/topics/architecture.md draws them.

A profiler notes the modules of Ashtree that a push and a crash pass. The tests compare them with the drawings.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import trio

from actors import open_runtime
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.transports.out_buffer import OutBuffer
from channels.transports.poller import Reading
from tests.architecture.sources import PACKAGES, ROOT
from tests.channels.support import Server, head
from tests.channels.transports.frames import TEXT, client_frame

REAL_CLOCK = True

# Every task begins in this function, which only awaits the work of its process.
BEGINNING = "Runtime._run"


class Room(Channel):
    @handle_in("ping")
    async def ping(self, payload: Any) -> PushReply:
        return PushReply()

    @handle_in("boom")
    async def boom(self, payload: Any) -> None:
        raise ValueError("boom")


class UserSocket(Socket):
    channels = {"room:*": Room}


def drawn(title: str) -> list[str]:
    """Return the modules in the drawings below a heading of the map, in their order."""
    text = (ROOT / "docs/topics/architecture.md").read_text()
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    drawings = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    found = re.findall(r"(?:actors|channels|supervision)/[\w/]+\.py", "".join(drawings))
    return list(dict.fromkeys(found))


def module_of(file: str) -> str | None:
    """Return the path of a module of Ashtree; None for any other file."""
    path = file.removeprefix(f"{ROOT}/")
    return path if path.partition("/")[0] in PACKAGES else None


@contextmanager
def profiled(note: Callable[[FrameType], object]) -> Iterator[None]:
    """Call `note` with each frame that begins to run, or that runs on."""
    sys.setprofile(lambda frame, event, _: note(frame) if event == "call" else None)
    try:
        yield
    finally:
        sys.setprofile(None)


class Client:
    """A client on a plain socket, which has joined a room."""

    def __init__(self, server: Server, stream: trio.SocketStream) -> None:
        self.server = server
        self._stream = stream

    async def ask(self, event: str, ref: str) -> bytes:
        message = json.dumps(["1", ref, "room:a", event, {}]).encode()
        await self._stream.send_all(client_frame(TEXT, message))
        return await self._stream.receive_some()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    # Without the checks of `debug`, as in production.
    async with open_runtime(log=False, debug=False) as runtime:
        endpoint = Endpoint(sockets={"/socket": UserSocket})
        server = Server(endpoint, runtime, await endpoint.start_link(port=0))
        async with await trio.open_tcp_stream(*endpoint.address) as stream:
            await stream.send_all(head())
            assert b" 101 " in await stream.receive_some()
            joined = Client(server, stream)
            assert b'"ok"' in await joined.ask("phx_join", "1")
            yield joined


async def test_a_push_passes_the_modules_of_the_drawing(client: Client) -> None:
    passed: list[str] = []
    state = "before"

    def note(frame: FrameType) -> None:
        nonlocal state
        if frame.f_code is Reading.read.__code__ and state == "before":
            state = "between"
        elif frame.f_code is Room.ping.__code__:
            state = "after"
        module = module_of(frame.f_code.co_filename)
        if state == "between" and module and frame.f_code.co_qualname != BEGINNING:
            passed.append(module)

    with profiled(note):
        assert b'"ok"' in await client.ask("ping", "2")
    assert state == "after"
    assert list(dict.fromkeys(passed)) == drawn("The path of a message")


async def test_a_crash_passes_the_modules_of_the_drawing(client: Client) -> None:
    """The modules are those that the exception leaves, and the callers of the function that writes phx_error."""
    crashes = client.server.crashes()
    callers: list[str] = []

    def note(frame: FrameType) -> None:
        if (
            frame.f_code is not OutBuffer.put.__code__
            or b"phx_error" not in frame.f_locals["frame"]
        ):
            return
        stack = (
            module_of(each.f_code.co_filename) for each, _ in traceback.walk_stack(frame.f_back)
        )
        callers[:0] = reversed([module for module in stack if module])

    with profiled(note):
        assert b"phx_error" in await client.ask("boom", "2")
    frames = traceback.extract_tb(crashes[0].__traceback__)
    left = [module for each in reversed(frames) if (module := module_of(each.filename))]
    assert list(dict.fromkeys([*left, *callers])) == drawn("The path of a crash")
