"""One request of Hypercorn's and its answer, as the application sees them.

Hypercorn runs an application in a task and finishes the exchange in that task. After the last piece of the answer it
tells the application that the client has gone. Then it closes the connection, or starts its idle timeout. An
`Exchange` replaces Hypercorn's queue of messages, because two kinds of application kept that work from being done, and
their connections open for ever:

- An application that stops when its client goes, such as a `StreamingResponse` of Starlette, cancelled the work.
- An application that does not read a large body leaves the queue full. Hypercorn waited for room in it.

The end of an exchange takes no room. The application cannot cancel what follows its last piece, but the end of the
connection can: see `Exchanges.cancel`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup

__all__ = ["Exchange", "Exchanges"]


class Exchange:
    """The messages of one request, to its application and from it.

        >>> async def example(hypercorn_send: Callable[[Any], Awaitable[None]]) -> None:
        ...     exchange = Exchange(hypercorn_send, {}, max_messages=10)
        ...     await exchange.put({"type": "http.request", "body": b"", "more_body": False})
        ...     print(await exchange.receive())

    Args:
        send: passes a message of the application on to Hypercorn; None is the end of the application.
        shields: holds the scope of each exchange that is being finished.
        max_messages: pieces of the body that may wait for the application.
    """

    def __init__(
        self,
        send: Callable[[Any], Awaitable[None]],
        shields: dict[trio.CancelScope, None],
        *,
        max_messages: int,
    ) -> None:
        self._send = send
        self._shields = shields
        self._put, self._take = trio.open_memory_channel[Any](max_messages)

    async def put(self, message: Any) -> None:
        """Give the application a message, as soon as there is room for it. The end of the exchange needs none."""
        if message["type"] == "http.disconnect":
            self._put.close()
            return
        try:
            await self._put.send(message)
        except trio.ClosedResourceError:
            # The exchange ended while this piece waited, or before. Nobody will read it.
            pass

    async def receive(self) -> Any:
        """Wait for the next message; from the end of the exchange on, `http.disconnect`."""
        try:
            return await self._take.receive()
        except trio.EndOfChannel:
            return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Pass on a piece of the answer. The application cannot cancel what the last piece leads to."""
        if message is not None and message.get("more_body", message["type"] in _NEVER_LAST):
            await self._send(message)
            return
        # Shielded, because half of what follows would leave a connection that nobody closes. Writing to a peer that
        # does not read is bounded by the stream, and everything by the end of the connection.
        with trio.CancelScope(shield=True) as shield:
            self._shields[shield] = None
            try:
                await self._send(message)
            finally:
                del self._shields[shield]


_NEVER_LAST = ("http.response.start", "http.response.push", "http.response.early_hint")


class Exchanges(TaskGroup):
    """The task group of one connection of Hypercorn's, with an `Exchange` for each request.

    Args:
        group: the group that the connection has, in whose nursery the applications run.
    """

    def __init__(self, group: TaskGroup) -> None:
        super().__init__()
        self._nursery = group._nursery
        self._shields: dict[trio.CancelScope, None] = {}

    async def spawn_app(self, app: Any, config: Config, scope: Any, send: Any) -> Any:
        """Start the application in a task; return what takes the messages for it."""
        if scope["type"] != "http":
            return await super().spawn_app(app, config, scope, send)
        exchange = Exchange(send, self._shields, max_messages=config.max_app_queue_size)

        async def run(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
            await app(scope, exchange.receive, send, sync_spawn, call_soon)

        await super().spawn_app(run, config, scope, exchange.send)
        return exchange.put

    def cancel(self) -> None:
        """Finish nothing any more: the connection is being cancelled."""
        for shield in list(self._shields):
            shield.cancel()
