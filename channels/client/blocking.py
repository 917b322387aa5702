"""The client for code that blocks: scripts, notebooks, and threads of programs on asyncio.

    from channels.client import blocking

    with blocking.open_socket("ws://localhost:4000/socket") as socket:
        with socket.channel("room:lobby") as channel:
            print(channel.push("new_msg", {"body": "hello"}))
            for message in channel:
                print(message.event, message.payload)

For each socket, Trio runs in a separate thread, and does everything that `channels.client` does. Heartbeats,
reconnects and rejoins go on while the program computes. The names, the arguments and the errors are the same as in
`channels.client`. Methods that you await in `channels.client` block here. You may call all methods from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Generic, Self, TypeVar

import trio

from channels.client import socket as trio_socket
from channels.client.channel import ClientChannel
from channels.client.errors import NotConnected
from channels.client.events import Lifecycle
from channels.client.feed import Feed
from channels.client.records import ChannelState, ConnectionState
from channels.client.socket import ClientSocket, SocketStatistics
from channels.client.wire import address_of
from channels.messages import Message

__all__ = ["BlockingChannel", "BlockingFeed", "BlockingPush", "BlockingSocket", "open_socket"]

T = TypeVar("T")


class _Portal:
    """A thread that runs Trio and keeps a socket open until `stop`."""

    def __init__(self, opening: AbstractAsyncContextManager[ClientSocket], url: str) -> None:
        self.url = url
        self._opening = opening
        self._ready: Future[ClientSocket] = Future()
        self._stop: trio.Event | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._outcome: BaseException | None = None
        # A daemon thread, so that the process can end although a program, such as a notebook, has not left the block.
        self._thread = threading.Thread(target=self._main, name="channels.client", daemon=True)

    def start(self) -> ClientSocket:
        """Start the thread, and return the open socket."""
        if self._thread.ident is not None:
            raise RuntimeError(f"the socket {self.url} was opened before; call open_socket again")
        self._thread.start()
        return self._ready.result()

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function in the thread, and return its result.

        Raises:
            NotConnected: the socket has ended.
        """
        result: T = self._call(trio.from_thread.run, function, *args)
        return result

    def run_sync(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function in the thread, and return its result.

        Raises:
            NotConnected: the socket has ended.
        """
        result: T = self._call(trio.from_thread.run_sync, function, *args)
        return result

    def _call(self, run: Callable[..., Any], *args: Any) -> Any:
        assert self._token is not None  # set before the socket is ready
        try:
            return run(*args, trio_token=self._token)
        except trio.RunFinishedError:
            raise NotConnected(self.url, "the socket has ended; open another one") from None

    def stop(self) -> None:
        """Close the socket, and wait for the thread.

        Raises:
            BaseException: the error that has ended the socket, if one has.
        """
        if self._stop is not None and self._thread.is_alive():
            try:
                self.run_sync(self._stop.set)
            except NotConnected:
                # The socket has ended because of an error, which is raised below.
                pass
        self._thread.join()
        if self._outcome is not None:
            raise self._outcome

    def _main(self) -> None:
        try:
            trio.run(self._hold)
        except BaseException as error:  # whatever it is, the thread of the program raises it
            if self._ready.done():
                self._outcome = error
            else:
                self._ready.set_exception(error)

    async def _hold(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        async with self._opening as socket:
            self._ready.set_result(socket)
            await self._stop.wait()


def open_socket(url: str, **options: Any) -> BlockingSocket:
    """Connect to a socket of a Phoenix server, for a `with` block.

        with open_socket("wss://example.org/socket", params={"token": token}) as socket:
            ...

    Args:
        url: the URL of the socket.
        options: the options of `channels.client.open_socket`. The client's thread calls the functions among them.

    Returns:
        The socket.
    """
    return BlockingSocket(trio_socket.open_socket(url, **options), url)


class BlockingSocket:
    """A connection that the client reopens when it breaks, from `open_socket`. The blocking form of `ClientSocket`."""

    def __init__(self, opening: AbstractAsyncContextManager[ClientSocket], url: str) -> None:
        self._portal = _Portal(opening, address_of(url).url)
        self._socket: ClientSocket | None = None

    def __repr__(self) -> str:
        state = "not open" if self._socket is None else self._socket.state
        return f"<blocking socket {self._portal.url} {state}>"

    def __enter__(self) -> Self:
        self._socket = self._portal.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._portal.stop()

    @property
    def _opened(self) -> ClientSocket:
        if self._socket is None:
            raise RuntimeError("the socket is not open; write `with open_socket(...) as socket:`")
        return self._socket

    @property
    def state(self) -> ConnectionState:
        """The state of the connection: closed, connecting or open."""
        return self._opened.state

    def channel(self, topic: str, params: Any = None, **options: Any) -> BlockingChannel:
        """Return a channel, for a `with` block, which joins the topic.

        Args:
            topic: the topic.
            params: the payload for `join`, or a function, which runs in the client's thread.
            options: the options of `ClientSocket.channel`.
        """
        make = partial(self._opened.channel, topic, params, **options)
        return BlockingChannel(self._portal, self._portal.run_sync(make))

    def events(self) -> BlockingFeed[Lifecycle]:
        """Return a feed of the lifecycle events that follow this call."""
        return BlockingFeed(self._portal, self._portal.run_sync(self._opened.events))

    def ping(self) -> float:
        """Send a heartbeat, and return the seconds until its answer.

        Raises:
            NotConnected: the connection is not open, or broke before the answer.
        """
        return self._portal.run(self._opened.ping)

    def wait_open(self, timeout: float | None = None) -> None:
        """Wait until the connection is open.

        Args:
            timeout: the time limit in seconds; None waits without a limit.

        Raises:
            NotConnected: the connection did not open in time, or the socket has ended.
        """
        self._portal.run(self._opened.wait_open, timeout)

    def statistics(self) -> SocketStatistics:
        """Return the numbers of the socket."""
        return self._portal.run_sync(self._opened.statistics)


class BlockingChannel:
    """A topic that the client joins, and joins again after a loss. The blocking form of `ClientChannel`.

        with socket.channel("room:lobby") as channel:
            channel.push("new_msg", {"body": "hello"})
            for message in channel:
                print(message.event, message.payload)

    Attributes:
        topic: the topic.
    """

    def __init__(self, portal: _Portal, channel: ClientChannel) -> None:
        self.topic = channel.topic
        self._portal = portal
        self._channel = channel

    def __repr__(self) -> str:
        return f"<blocking channel {self.topic!r} {self.state}>"

    def __enter__(self) -> Self:
        self._portal.run(self._channel.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.leave()
        except NotConnected:
            # The socket has ended already, and its own block raises the reason.
            pass

    @property
    def state(self) -> ChannelState:
        """One of closed, joining, joined, errored and leaving."""
        return self._channel.state

    @property
    def response(self) -> Any:
        """The response of the last join."""
        return self._channel.response

    def push(self, event: str, payload: Any = None, *, timeout: float | None = None) -> Any:
        """Push an event, wait for the reply, and return its payload.

            reply = channel.push("new_msg", {"body": "hello"}, timeout=5)

        Args:
            event: the name of the event.
            payload: a JSON value; None is an empty object.
            timeout: the seconds to wait for the reply. None takes the time limit of the socket.

        Raises:
            Refused: the server replied with a status other than ok.
            PushTimeout: no reply came in time. The server may have handled the push.
            ChannelClosed: the channel is closed.
            EncodeError: the payload cannot be encoded.
            BufferFull: too many pushes wait.
            InvalidOption: the event is not text, or the timeout is not a positive number.
            NotConnected: the socket has ended.
        """
        return self._portal.run(partial(self._channel.push, event, payload, timeout=timeout))

    def push_nowait(
        self, event: str, payload: Any = None, *, timeout: float | None = None
    ) -> BlockingPush:
        """Push an event without waiting for the reply. Call `wait` of the result to get the reply.

        Args:
            event: the name of the event.
            payload: a JSON value; None is an empty object.
            timeout: the seconds to wait for the reply. None takes the time limit of the socket.

        Returns:
            The push.

        Raises:
            ChannelClosed: the channel is closed.
            EncodeError: the payload cannot be encoded.
            BufferFull: too many pushes wait.
            InvalidOption: the event is not text, or the timeout is not a positive number.
            NotConnected: the socket has ended.
        """
        make = partial(self._channel.push_nowait, event, payload, timeout=timeout)
        return BlockingPush(self._portal, self._portal.run_sync(make))

    def on(self, event: str) -> BlockingFeed[Any]:
        """Return a feed of the payloads of one event that arrive after this call.

            for payload in channel.on("new_msg"):
                print(payload["body"])

        Args:
            event: the name of the event.

        Returns:
            An iterator, which waits for the next payload. It ends when the channel or the socket has ended.

        Raises:
            NotConnected: the socket has ended.
        """
        return BlockingFeed(self._portal, self._portal.run_sync(self._channel.on, event))

    def wait_joined(self) -> Any:
        """Wait until the channel is joined, and return the response of the join."""
        return self._portal.run(self._channel.wait_joined)

    def leave(self) -> None:
        """Leave the topic, and wait for the answer of the server."""
        self._portal.run(self._channel.leave)

    def __iter__(self) -> BlockingFeed[Message]:
        return BlockingFeed(self._portal, aiter(self._channel))


class BlockingPush:
    """A push that may still wait for its reply. The blocking form of `ClientPush`."""

    def __init__(self, portal: _Portal, push: Any) -> None:
        self._portal = portal
        self._push = push

    @property
    def status(self) -> str | None:
        """The status of the reply; None while the push waits for it."""
        status: str | None = self._push.status
        return status

    def wait(self) -> Any:
        """Wait for the reply, and return its payload.

        Raises:
            Refused: the server replied with a status other than ok.
            PushTimeout: no reply came in time. The server may have handled the push.
            ChannelClosed: the channel was closed before the reply.
            NotConnected: the socket has ended.
        """
        return self._portal.run(self._push.wait)


class BlockingFeed(Generic[T]):
    """An iterator over items as they arrive, for `for`. The blocking form of `Feed`."""

    def __init__(self, portal: _Portal, feed: Feed[T]) -> None:
        self._portal = portal
        self._feed = feed

    def __len__(self) -> int:
        return len(self._feed)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return self._portal.run(self._next)
        except (NotConnected, StopAsyncIteration):
            # The feed or the whole socket has ended.
            raise StopIteration from None

    def get(self, timeout: float) -> T | None:
        """Return the next item, or None if no item arrives within `timeout` seconds."""
        return self._portal.run(self._next_within, timeout)

    def close(self) -> None:
        """Stop getting items, and end the iterations."""
        self._portal.run_sync(self._feed.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _next(self) -> T:
        return await anext(self._feed)

    async def _next_within(self, timeout: float) -> T | None:
        with trio.move_on_after(timeout):
            return await anext(self._feed)
        return None
