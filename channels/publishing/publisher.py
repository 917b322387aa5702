"""Publish to the topics of running nodes, from programs that are not nodes: a cron job, a Django view, a Celery task.

    from channels.publishing import publish

    publish("redis://127.0.0.1:6379", "room:lobby", "new_msg", {"body": "hello"})

The message goes to the Redis or Valkey server that the nodes use, and from there to every node. The program needs no
runtime, no Trio and no endpoint. `AsyncPublisher` is the form for Trio. In a node, use `Endpoint.broadcast`.

Delivery is at most once: if a node is not connected to the server, it does not get the message. Nodes cannot count such
losses, because a publisher does not number its messages.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

import trio

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption
from actors.text import brief
from channels.errors import ChannelsError, EncodeError
from channels.messages import Broadcast
from channels.pubsub.adapter import encode
from channels.pubsub.envelope import MAX_BYTES, MAX_NAME, MessageTooLarge, pack
from channels.pubsub.lanes import ALL_NODES
from channels.pubsub.redis.protocol import (
    Pong,
    Protocol,
    ProtocolViolation,
    Ready,
    Refused,
    pack_publish,
)
from channels.pubsub.redis.server import RedisServer
from channels.pubsub.redis.url import RedisUrl

__all__ = ["AsyncPublisher", "PublishError", "Publisher", "publish", "publish_async"]

_RECEIVE = 16 * 1024
_CLOSED = "the server closed the connection"
# ValueError: the host is a name that cannot be looked up, or that TLS cannot check.
_FAILURES = (
    OSError,
    ValueError,
    ProtocolViolation,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
# Seconds. A socket takes no longer timeout than 24 days.
_LONGEST = 24 * 86_400.0


class PublishError(ChannelsError):
    """A message could not be published.

    Attributes:
        url: the server, without user and password.
        problem: the cause of the failure, as text.
        is_sent: True if the publisher had begun to send the message. The server may have published it.
    """

    def __init__(self, url: RedisUrl, problem: str, *, is_sent: bool) -> None:
        outcome = "it may have been published" if is_sent else "it was not published"
        super().__init__(f"a message for {url} failed, and {outcome}: {problem}")
        self.url = str(url)
        self.problem = problem
        self.is_sent = is_sent


def publish(
    server: RedisServer | str,
    topic: str,
    event: str,
    payload: Any,
    *,
    key: str | None = None,
    **options: Any,
) -> None:
    """Publish one event, and return when the server has it.

        publish("redis://127.0.0.1:6379", "room:lobby", "new_msg", {"body": "hello"})
        publish("redis://127.0.0.1:6379", "user_socket:7", "disconnect", {})

    It opens a connection and closes it again. To publish many events, keep a `Publisher`.

    Args:
        server: the server that the nodes give to `RedisAdapter`, or its URL, prefix included.
        topic: the topic.
        event: the name of the event.
        payload: a JSON object, or a `Binary`.
        key: the name of the thing whose value this is; None for a message that must not be dropped. See
            `Endpoint.broadcast_latest`.
        options: the options of `Publisher`.

    Raises:
        EncodeError: the payload is not a JSON object, the event begins with `phx_`, or the key is not a short text.
        MessageTooLarge: the message exceeds `max_bytes`.
        PublishError: there is no connection, or the server refused the message.
        InvalidArgument: the URL has another form.
    """
    with Publisher(server, **options) as publisher:
        publisher.publish(topic, event, payload, key=key)


async def publish_async(
    server: RedisServer | str,
    topic: str,
    event: str,
    payload: Any,
    *,
    key: str | None = None,
    **options: Any,
) -> None:
    """Publish one event from Trio. Like `publish`, but with the options of `AsyncPublisher`."""
    async with AsyncPublisher(server, **options) as publisher:
        await publisher.publish(topic, event, payload, key=key)


class _AnyPublisher(ABC):
    """The options of both publishers, and the work that they share. *pure*."""

    def __init__(
        self,
        server: RedisServer | str,
        *,
        name: str = "publisher",
        timeout: float = 5.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        owner = type(self).__name__
        self.server = RedisServer.of(server)
        check_positive(owner, "timeout", timeout)
        check_whole(owner, "max_bytes", max_bytes)
        if not isinstance(name, str) or len(name) > MAX_NAME:
            raise InvalidOption(owner, "name", name, f"text of at most {MAX_NAME} characters")
        self._name = name
        self._timeout = min(timeout, _LONGEST)
        self._max_bytes = max_bytes
        self._protocol = Protocol()
        self._set_up()

    @abstractmethod
    def _set_up(self) -> None:
        """Set the fields of a publisher that is not connected."""

    def _command(self, topic: str, event: str, payload: Any, key: str | None) -> bytes:
        """Return the command that publishes an event."""
        encoded = encode(topic, Broadcast(topic, event, payload, key))
        if event.startswith("phx_"):
            problem = f"the event {brief(event)} belongs to the server itself; choose another name"
            raise EncodeError(problem, kind="broadcast", topic=topic, event=event)
        envelope = pack(self._name, "", 0, encoded)
        if len(envelope) > self._max_bytes:
            raise MessageTooLarge(topic, len(envelope), self._max_bytes)
        channel = f"{self.server.url.prefix}:{ALL_NODES}"
        return pack_publish(channel.encode(), envelope)

    def _answered(
        self, protocol: Protocol, data: bytes | bytearray, awaited: type[Ready | Pong]
    ) -> bool:
        """Take bytes from the server. Return True when it has answered all commands.

        Raises:
            PublishError: the server closed the connection, or refused a command.
            ProtocolViolation: the other side is not a Redis server.
        """
        if not data:
            raise PublishError(self.server.url, _CLOSED, is_sent=awaited is Pong)
        protocol.feed(bytes(data))
        done = False
        while True:
            for event in protocol.events(100):
                if isinstance(event, Refused):
                    # A refused PUBLISH was not published.
                    raise PublishError(self.server.url, str(event.error), is_sent=False)
                done = done or isinstance(event, awaited)
            if not protocol.more:
                return done


class Publisher(_AnyPublisher):
    """A connection that publishes, for blocking programs. Any thread may use it.

        with Publisher("redis://127.0.0.1:6379") as publisher:
            for order in orders:
                publisher.publish("orders", "created", {"id": order.id})

    It connects at the first message. If the server has closed the connection, the next message opens another one. After
    `os.fork`, the child opens its own connection.

    Args:
        server: the server that the nodes give to `RedisAdapter`, or its URL, prefix included.
        name: the name of this program, which people see when they inspect messages.
        timeout: seconds to connect, and seconds for the answer to a message.
        max_bytes: the largest message, in bytes.

    Raises:
        InvalidArgument: the URL has another form.
        InvalidOption: an option has an invalid value.
    """

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def publish(self, topic: str, event: str, payload: Any, *, key: str | None = None) -> None:
        """Publish an event, and return when the server has it. The function `publish` describes the details.

        Args:
            topic: the topic.
            event: the name of the event.
            payload: a JSON object, or a `Binary`.
            key: the name of the thing whose value this is, or None.

        Raises:
            EncodeError: the payload is not a JSON object, the event begins with `phx_`, or the key is not a short text.
            MessageTooLarge: the message exceeds `max_bytes`.
            PublishError: there is no connection, or the server refused the message.
        """
        command = self._command(topic, event, payload, key)
        with self._lock:
            sent = False
            try:
                stream = self._connected()
                self._protocol.publishing(1)
                # The answer to the PING shows that the server has taken the message.
                sent = True
                stream.sendall(command + self._protocol.ping())
                while not self._answered(self._protocol, stream.recv(_RECEIVE), Pong):
                    pass
            except PublishError:
                self._disconnect()
                raise
            except _FAILURES as error:
                self._disconnect()
                raise PublishError(self.server.url, _described(error), is_sent=sent) from error

    def close(self) -> None:
        """Close the connection. The next message opens it again."""
        with self._lock:
            self._disconnect()

    def _connected(self) -> socket.socket:
        """Return an open connection."""
        stream = self._socket
        if stream is not None and self._pid == os.getpid() and _is_quiet(stream):
            return stream
        self._disconnect()
        url, tls = self.server.url, self.server.tls
        if url.path is not None:
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(self._timeout)
            stream.connect(url.path)
        else:
            stream = socket.create_connection((url.host, url.port), self._timeout)
        try:
            if tls is not None:
                stream = tls.wrap_socket(stream, server_hostname=url.host)
            protocol = Protocol()
            stream.sendall(protocol.hello(url, client_name=f"ashtree:{self._name}"))
            while not self._answered(protocol, stream.recv(_RECEIVE), Ready):
                pass
        except BaseException:
            stream.close()
            raise
        self._socket, self._protocol, self._pid = stream, protocol, os.getpid()
        return stream

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class AsyncPublisher(_AnyPublisher):
    """A connection that publishes, for programs on Trio. Several tasks may use it.

        async with AsyncPublisher("redis://127.0.0.1:6379") as publisher:
            await publisher.publish("orders", "created", {"id": 7})

    The options are those of `Publisher`.
    """

    def _set_up(self) -> None:
        self._lock = trio.Lock()
        self._stream: trio.abc.Stream | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def publish(
        self, topic: str, event: str, payload: Any, *, key: str | None = None
    ) -> None:
        """Publish an event, and return when the server has it. The function `publish` describes the details.

        Args:
            topic: the topic.
            event: the name of the event.
            payload: a JSON object, or a `Binary`.
            key: the name of the thing whose value this is, or None.

        Raises:
            EncodeError: the payload is not a JSON object, the event begins with `phx_`, or the key is not a short text.
            MessageTooLarge: the message exceeds `max_bytes`.
            PublishError: there is no connection, or the server refused the message.
        """
        command = self._command(topic, event, payload, key)
        async with self._lock:
            sent = done = False
            try:
                with trio.fail_after(self._timeout):
                    stream = await self._connected()
                    self._protocol.publishing(1)
                    sent = True
                    await stream.send_all(command + self._protocol.ping())
                    while not self._answered(
                        self._protocol, await stream.receive_some(_RECEIVE), Pong
                    ):
                        pass
                done = True
            except PublishError:
                raise
            except (*_FAILURES, trio.TooSlowError) as error:
                raise PublishError(self.server.url, _described(error), is_sent=sent) from error
            finally:
                if not done:
                    # Disconnect after a cancellation too. Otherwise the next message would get the late answer to this
                    # one.
                    await self._disconnect()

    async def aclose(self) -> None:
        """Close the connection. The next message opens it again."""
        await self._disconnect()

    async def _connected(self) -> trio.abc.Stream:
        """Return an open connection."""
        if self._stream is not None and _is_silent(self._stream):
            return self._stream
        await self._disconnect()
        stream, url = await self.server.open(), self.server.url
        try:
            protocol = Protocol()
            await stream.send_all(protocol.hello(url, client_name=f"ashtree:{self._name}"))
            while not self._answered(protocol, await stream.receive_some(_RECEIVE), Ready):
                pass
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        self._stream, self._protocol = stream, protocol
        return stream

    async def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)


def _is_quiet(stream: socket.socket) -> bool:
    """Return True unless the server has closed the connection, or sent bytes that no call expects."""
    timeout = stream.gettimeout()
    try:
        stream.settimeout(0)
        stream.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    finally:
        stream.settimeout(timeout)
    # The connection has ended, or the server sent an unexpected byte.
    return False


def _is_silent(stream: trio.abc.Stream) -> bool:
    """Return True unless the server has closed the connection, or sent bytes that no call expects."""
    plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    return isinstance(plain, trio.SocketStream) and not plain.socket.is_readable()


def _described(error: BaseException) -> str:
    # Trio names the failed attempts to connect in a cause: one error, or a group with one for each address.
    if isinstance(error.__cause__, OSError | BaseExceptionGroup):
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError | trio.TooSlowError):
        return "the server did not answer in time"
    if isinstance(error, UnicodeError):
        return "the name of the host is invalid"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return brief(str(error) or type(error).__name__)
