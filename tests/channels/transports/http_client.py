"""A client of one HTTP/1.1 connection in memory, and an application that answers it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11
import trio
from trio.testing import memory_stream_pair

from channels.http.handover import HttpHandover


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with a description of the request."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    query = scope["query_string"]
    text = b"%s %s?%s %s" % (scope["method"].encode(), scope["path"].encode(), query, body)
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Client:
    """An HTTP/1.1 client on one stream, on h11."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.connection = h11.Connection(h11.CLIENT)

    async def ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        await self.stream.send_all(self.question(method, target, body, headers))
        return await self.answer()

    def question(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        fields = [("host", "localhost"), *(headers or {}).items()]
        if body:
            fields.append(("content-length", str(len(body))))
        data = self.connection.send(h11.Request(method=method, target=target, headers=fields))
        assert data is not None
        if body:
            data += self.connection.send(h11.Data(data=body)) or b""
        return data + (self.connection.send(h11.EndOfMessage()) or b"")

    async def answer(self) -> tuple[int, bytes]:
        status, body = 0, b""
        while True:
            event = self.connection.next_event()
            if event is h11.NEED_DATA:
                self.connection.receive_data(bytes(await self.stream.receive_some()))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                if self.connection.our_state is h11.DONE:
                    self.connection.start_next_cycle()
                return status, body
            else:
                raise AssertionError(event)


@asynccontextmanager
async def served(
    handover: HttpHandover, first: bytes = b""
) -> AsyncIterator[tuple[Client, trio.Nursery]]:
    """Serve one connection in memory, and give its client."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handover.serve, ours, first)
        yield Client(theirs), nursery
        await theirs.aclose()
