"""Clients of a test, and the topics that they have joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from attrs import frozen

from actors.declared import declared
from actors.links import kill, wait_exit
from actors.process import is_alive, send
from actors.refs import Pid
from actors.servers.gen_server import call
from channels.errors import ChannelsError
from channels.messages import Binary, Message
from channels.socket import Refusal, Socket
from channels.testing.hearing import Hearing
from channels.testing.inbox import ANYTHING, Inbox, Wanted, fits
from channels.testing.transport import ClientGone, FromClient, SessionClosed

__all__ = ["ConnectionRefused", "JoinFailed", "PushAnswer", "TestChannel", "TestClient"]

REPLY, CLOSE, ERROR = "phx_reply", "phx_close", "phx_error"


class ConnectionRefused(ChannelsError):
    """The socket's `connect` refused the test's client.

    Attributes:
        status: the status of the HTTP response, 403 by default. The mount's `error_handler` can choose another.
        body: the body of the response.
        headers: the headers of the response.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(
            f"the socket refused the connection with {refusal.status} {refusal.body}".rstrip()
        )
        self.status = refusal.status
        self.body = refusal.body
        self.headers = tuple(refusal.headers)


@declared("the join of {topic!r} got the reply {status!r}: {response!r}")
class JoinFailed(ChannelsError):
    """The join in `subscribe_and_join` failed.

    Attributes:
        topic: the topic.
        status: the status of the reply.
        response: the response in the reply.
    """

    topic: str
    status: str
    response: Any


@frozen
class PushAnswer:
    """The reply to a join or to a push."""

    status: str
    response: Any


class TestClient:
    """A connected client of a test. `ChannelTest.connect` makes it.

    Attributes:
        socket: the socket, for `client.socket.assigns`.
        pid: the process of the client's session, which ends with the connection.
        inbox: the frames of the server that no assertion has taken, as `Message`s.
    """

    __test__ = False  # for pytest: this is not a test class

    def __init__(self, case: Hearing, socket: Socket, inbox: Inbox[Any]) -> None:
        self.case = case
        self.socket = socket
        self.inbox = inbox
        self.pid: Pid
        self._refs = 0

    async def join(
        self, topic: str, payload: Any = None, *, timeout: float | None = None
    ) -> tuple[PushAnswer, TestChannel]:
        """Join a topic. Return the reply and the channel. The reply may be a refusal.

            answer, room = await client.join("room:lobby", {"name": "ann"})

        Args:
            topic: the topic.
            payload: the payload for `join`; an empty object by default.
            timeout: seconds to wait for the reply.

        Raises:
            Expected: no reply came in time.

        A join that crashes gets the status error and `{"reason": "join crashed"}`.
        """
        ref = self.next_ref()
        self.send_message(topic, "phx_join", payload, join_ref=ref, ref=ref)
        channel = TestChannel(self, topic, ref)
        answer = await channel.receive_reply(ref, timeout=timeout)
        if answer.status == "ok":
            channel.pid = await call(self.pid, topic)
        return answer, channel

    async def subscribe_and_join(
        self, topic: str, payload: Any = None, *, timeout: float | None = None
    ) -> tuple[Any, TestChannel]:
        """Join a topic, require the status ok, and subscribe the test to the topic's broadcasts.

            response, room = await client.subscribe_and_join("room:lobby", {"name": "ann"})
            room.push("new_msg", {"body": "hello"})
            await room.assert_broadcast("new_msg", {"body": "hello"})

        Args:
            topic: the topic.
            payload: the payload of the join; None is an empty object.
            timeout: the seconds to wait for the reply. None takes the time limit of the test.

        Returns:
            The response of the join, and the channel.

        Raises:
            JoinFailed: the status is not ok.
            Expected: no reply came in time.
        """
        await self.case.subscribe(topic)
        answer, channel = await self.join(topic, payload, timeout=timeout)
        if answer.status != "ok":
            raise JoinFailed(topic, answer.status, answer.response)
        return answer.response, channel

    async def assert_closed(self, code: Wanted = ANYTHING, *, timeout: float | None = None) -> int:
        """Assert that the server closes the connection. Return the close code, which must fit `code`.

        Args:
            code: the wanted close code, or a function that accepts it.
            timeout: the seconds to wait. None takes the time limit of the test.
        """
        closed = await self.inbox.take(
            f"the server to close the connection with {code!r}",
            lambda each: type(each) is SessionClosed and fits(each.code, code),
            timeout=self.case.seconds(timeout),
        )
        return int(closed.code)

    async def disconnect(self) -> None:
        """Close the connection, as a browser tab does when it closes. The channels of the client end."""
        if is_alive(self.pid):
            send(self.pid, ClientGone())
            await wait_exit(self.pid)

    def next_ref(self) -> str:
        """Return a new ref for a message of this client."""
        self._refs += 1
        return str(self._refs)

    def send_message(
        self, topic: Any, event: Any, payload: Any = None, *, join_ref: Any = None, ref: Any = None
    ) -> None:
        """Send any message, such as one with a stale `join_ref`, or with a topic that is not a string.

        Args:
            topic: the topic.
            event: the name of the event.
            payload: the payload; None is an empty object.
            join_ref: the ref of the join.
            ref: the ref of the message.
        """
        if isinstance(payload, Binary):
            strings = [str(each or "").encode() for each in (join_ref, ref, topic, event)]
            header = bytes([0, *map(len, strings)])
            self.send_frame(b"".join((header, *strings, payload.data)), binary=True)
        else:
            body = {} if payload is None else payload
            self.send_frame(msgspec.json.encode((join_ref, ref, topic, event, body)))

    def send_frame(self, data: bytes, *, binary: bool = False) -> None:
        """Send any bytes as a WebSocket message.

        Args:
            data: the content of the message.
            binary: True sends a binary message, and False a text message.
        """
        send(self.pid, FromClient(data, binary=binary))


class TestChannel:
    """A joined topic of a test's client.

    Attributes:
        topic: the topic.
        pid: the channel's process, for `call`, `send`, `monitor` or `kill`; None if the join failed.
    """

    __test__ = False

    def __init__(self, client: TestClient, topic: str, join_ref: str) -> None:
        self.client = client
        self.topic = topic
        self.join_ref = join_ref
        self.pid: Pid | None = None

    # Actions of the client

    def push(self, event: str, payload: Any = None) -> str:
        """Push an event to the channel without waiting. Return its ref, for `assert_reply`.

        Args:
            event: the name of the event.
            payload: the payload; None is an empty object.
        """
        ref = self.client.next_ref()
        self.client.send_message(self.topic, event, payload, join_ref=self.join_ref, ref=ref)
        return ref

    def leave(self) -> str:
        """Leave the topic, and return the ref. The server replies ok, and then sends phx_close."""
        return self.push("phx_leave")

    async def close(self, *, timeout: float = 5.0) -> None:
        """Leave, and wait until the channel has ended. Kill it after `timeout` seconds."""
        self.leave()
        if self.pid is None:
            return
        await self.client.case.ended(self.pid, timeout=timeout)
        if is_alive(self.pid):
            kill(self.pid)
            await wait_exit(self.pid)

    def broadcast_from(self, event: str, payload: Any) -> None:
        """Broadcast to the topic as if the channel of another client did it.

        The client of this channel gets the event.

        Args:
            event: the name of the event.
            payload: the payload.
        """
        self.client.case.broadcast_from(self.topic, event, payload)

    # Assertions about the client's messages

    async def assert_reply(
        self,
        ref: str,
        status: Wanted = "ok",
        response: Wanted = ANYTHING,
        *,
        timeout: float | None = None,
    ) -> Any:
        """Assert that the push with this ref gets a reply, and return its response.

            ref = room.push("new_msg", {"body": "hello"})
            await room.assert_reply(ref, "ok", {"count": 1})

        Args:
            ref: the return value of `push`.
            status: a string, or a function that accepts or refuses the status.
            response: a value that must be equal, and can contain `ANYTHING`; or a function that accepts or refuses
                the response.
            timeout: seconds to wait; by default the `timeout` of the test.

        Raises:
            Expected: no such reply came in time. The text of the error lists the messages that arrived.
        """
        expected = f"the answer {status!r} to push {ref} with {response!r}"
        message = await self._take(
            expected, lambda each: _is_reply(each, ref, status, response), timeout
        )
        return message.payload["response"]

    async def refute_reply(
        self,
        ref: str,
        status: Wanted = ANYTHING,
        response: Wanted = ANYTHING,
        *,
        timeout: float | None = None,
    ) -> None:
        """Assert that a push gets no reply with this status and response within `timeout` seconds.

        Args:
            ref: the ref of the push.
            status: the status that must not come, or a function that accepts it.
            response: the response that must not come, or a function that accepts it.
            timeout: the seconds to wait. None takes the time limit of the test.
        """
        await self._refuse(
            f"answer {status!r} to push {ref} with {response!r}",
            lambda each: _is_reply(each, ref, status, response),
            timeout,
        )

    async def receive_reply(self, ref: str, *, timeout: float | None = None) -> PushAnswer:
        """Return the reply to a push, with any status.

        Args:
            ref: the ref of the push.
            timeout: the seconds to wait. None takes the time limit of the test.

        Raises:
            Expected: no reply came in time.
        """
        message = await self._take(
            f"an answer to push {ref}",
            lambda each: _is_reply(each, ref, ANYTHING, ANYTHING),
            timeout,
        )
        return PushAnswer(message.payload["status"], message.payload["response"])

    async def assert_push(
        self, event: str, payload: Wanted = ANYTHING, *, timeout: float | None = None
    ) -> Any:
        """Assert that the client gets an event of this topic, pushed or broadcast. Return its payload.

            await room.assert_push("new_msg", {"body": "hello", "from": ANYTHING})
            await room.assert_push("new_msg", lambda payload: payload["body"].startswith("h"))
            await room.assert_push("phx_error")               # the channel has crashed

        Args:
            event: the name of the event.
            payload: the wanted payload, or a function that accepts it.
            timeout: the seconds to wait. None takes the time limit of the test.
        """
        expected = f"the push {event!r} with {payload!r}"
        message = await self._take(
            expected, lambda each: self._is_push(each, event, payload), timeout
        )
        return message.payload

    async def refute_push(
        self, event: str, payload: Wanted = ANYTHING, *, timeout: float | None = None
    ) -> None:
        """Assert that the client does not get this event with this payload within `timeout` seconds.

        Args:
            event: the name of the event.
            payload: the payload that must not come, or a function that accepts it.
            timeout: the seconds to wait. None takes the time limit of the test.
        """
        await self._refuse(
            f"push {event!r} with {payload!r}",
            lambda each: self._is_push(each, event, payload),
            timeout,
        )

    async def assert_broadcast(
        self, event: str, payload: Wanted = ANYTHING, *, timeout: float | None = None
    ) -> Any:
        """Assert that someone broadcasts an event to the topic. Return its payload.

        The test gets the event through its own subscription, not through the client. `subscribe_and_join` makes this
        subscription.

        Args:
            event: the name of the event.
            payload: the wanted payload, or a function that accepts it.
            timeout: the seconds to wait. None takes the time limit of the test.
        """
        return await self.client.case.assert_broadcast(self.topic, event, payload, timeout=timeout)

    async def refute_broadcast(
        self, event: str, payload: Wanted = ANYTHING, *, timeout: float | None = None
    ) -> None:
        """Assert that nobody broadcasts this event with this payload to the topic within `timeout` seconds.

        Args:
            event: the name of the event.
            payload: the payload that must not come, or a function that accepts it.
            timeout: the seconds to wait. None takes the time limit of the test.
        """
        await self.client.case.refute_broadcast(self.topic, event, payload, timeout=timeout)

    async def _take(
        self, expected: str, match: Callable[[Any], bool], timeout: float | None
    ) -> Message:
        client = self.client
        message: Message = await client.inbox.take(
            f"{expected} on {self.topic!r}", match, timeout=client.case.seconds(timeout)
        )
        return message

    async def _refuse(
        self, unwanted: str, match: Callable[[Any], bool], timeout: float | None
    ) -> None:
        client = self.client
        await client.inbox.refuse(
            f"{unwanted} on {self.topic!r}", match, timeout=client.case.seconds(timeout)
        )

    def _is_push(self, message: Any, event: str, payload: Wanted) -> bool:
        return (
            type(message) is Message
            and message.topic == self.topic
            and message.event == event
            and message.event != REPLY
            # A rejoin of the same topic has another join_ref. Broadcasts have no join_ref.
            and message.join_ref in (None, self.join_ref)
            and fits(message.payload, payload)
        )


def _is_reply(message: Any, ref: str, status: Wanted, response: Wanted) -> bool:
    return (
        type(message) is Message
        and message.event == REPLY
        and message.ref == ref
        and fits(message.payload["status"], status)
        and fits(message.payload["response"], response)
    )
