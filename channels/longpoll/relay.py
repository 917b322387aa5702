"""The relay, which forwards requests of polling clients to the node that holds their session.

    client ── request ──▶ node b ── ForwardedPoll ──▶ node a ── Poll ──▶ LongPollSession
           ◀── answer ───        ◀─── Answer ───────         ◀─ frames ─

The token of a session contains the name of its node. The relay sends the request to that node over PubSub, and that
node sends the answer over PubSub. `channels.protocol.longpoll` defines the messages. Each node has its own topic for
them.

PubSub may lose a message. Time limits handle each loss:

* If no `Found` arrives in time, the request counts as one without a session. A poll starts a new session, and a post
  gets 410. In both cases, phoenix.js joins its channels again.
* If no answer to a post arrives, the client gets 408. Then phoenix.js connects again.
* If no answer to a poll arrives, the client gets 204. If the session has sent messages for this poll, and gets no
  confirmation, the session ends. So a client never misses a message within one session.

If the node of the session drains, or has said goodbye, the request does not wait for a time limit. It counts at once as
one without a session.

Phoenix sends such messages on the session's private topic, and does not confirm them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, TypeAlias, cast

import trio

from actors.instrumentation.telemetry import Event
from actors.process import is_alive, on_exit, receive, send
from actors.refs import Pid
from channels.errors import ChannelsError
from channels.longpoll.session import Confirm, Place, Poll, Sessions
from channels.protocol.longpoll import (
    PIECE,
    PIECES,
    Answer,
    Arriving,
    Delivered,
    ForwardedPoll,
    ForwardedPost,
    Found,
    LongPoll,
    More,
    NotDelivered,
    NotFound,
    Piece,
    PollAnswer,
    Relayed,
    messages_answer,
    plain_answer,
    read_relayed,
    relay_topic,
    relayed_answer,
    status_answer,
)
from channels.serving.services import Services
from channels.telemetry import LONGPOLL_NOT_FORWARDED, PUBSUB_NODE_DOWN, PUBSUB_NODE_UP

__all__ = ["Hold", "Relay"]

# The metadata of a relay's subscription. It marks the relays, because an application may subscribe to the topic too.
_RELAY = object()
# Stopped nodes to remember. After that, the relay forgets the node that stopped first, and asks it in vain.
_MAX_STOPPED = 1000

Hold: TypeAlias = Callable[[int], AbstractContextManager[bool]]
"""A function that counts bytes of a body as held during a `with` block. It gives the block False if they do not fit."""


class _Exchange:
    """A forwarded request. The node that got it and the node of the session each have such an object.

    Attributes:
        node: the other node.
        sent: the body that this node sends.
        arriving: the body from the other node; None before its first piece arrives.
        complete: set when `arriving` is complete.
    """

    def __init__(self, node: str, sent: bytes = b"", arriving: Arriving | None = None) -> None:
        self.node = node
        self.sent = sent
        self.arriving = arriving
        self.complete = trio.Event()


class _Asked(_Exchange):
    """A request that this node has forwarded.

    Attributes:
        found: set when the first message from the node of the session arrives.
        answered: set when the answer or `NotFound` arrives.
        answer: the answer, with the first piece of its body; None if there is no session.
        is_over: True if the other node no longer waits for a message about this request.
    """

    def __init__(self, node: str, sent: bytes) -> None:
        super().__init__(node, sent)
        self.found = trio.Event()
        self.answered = trio.Event()
        self.answer: Answer | None = None
        self.is_over = False

    def end(self) -> None:
        """Answer the request as one without a session. An answer whose pieces have not all arrived is lost."""
        if not self.is_over:
            self.answer = None
            self.is_over = True
            self.found.set()
            self.answered.set()
            self.complete.set()


class _Served(_Exchange):
    """A request that another node has forwarded to a session of this node.

    Attributes:
        scope: cancelled when the other node no longer waits.
        confirmed: set when the other node has confirmed the answer.
        poll: the poll that this node sent to the session; None before that, and for a POST.
        pid: the process of the session; None before this node finds it.
    """

    def __init__(self, node: str, arriving: Arriving | None) -> None:
        super().__init__(node, b"", arriving)
        self.scope = trio.CancelScope()
        self.confirmed = trio.Event()
        self.poll: Poll | None = None
        self.pid: Pid | None = None

    def confirm(self, *, delivered: bool) -> None:
        if self.poll is not None and self.pid is not None:
            send(self.pid, Confirm(self.poll, delivered))


class Relay:
    """Forward requests to sessions of other nodes, and serve requests that other nodes forward.

    A session may have a poll and a post at the same time. So a node forwards at most twice `Endpoint(max_sessions=)`
    requests at a time, and serves as many requests of other nodes. Further requests get 503.

    Args:
        services: the services of the endpoint.
        sessions: the sessions of this node.
        hold: the function that counts the bytes of bodies from other nodes.
    """

    def __init__(self, services: Services, sessions: Sessions, hold: Hold) -> None:
        self._services = services
        self._sessions = sessions
        self._hold = hold
        self._max_together = 2 * services.endpoint.max_sessions
        # Different at each start, because an answer to a request from before a restart may still arrive.
        self._name = f"{services.runtime.random.getrandbits(64):016x}"
        self._numbers = count(1)
        self._asked: dict[str, _Asked] = {}
        self._served: dict[str, _Served] = {}
        # The names of the nodes that have said goodbye and have not returned, in the order of their goodbyes.
        self._stopped: dict[str, None] = {}
        mounts = (mount.longpoll for mount in services.longpolls.values())
        self._max_body = max(
            (each.max_body_bytes for each in mounts if each is not None), default=0
        )

    async def main(self) -> None:
        """Handle the messages of other relays, until cancelled. Run this in a process."""
        telemetry = self._services.runtime.telemetry
        on_exit(telemetry.attach(PUBSUB_NODE_DOWN, self._node_down))
        on_exit(telemetry.attach(PUBSUB_NODE_UP, self._node_up))
        self._services.pubsub.subscribe(self._topic, metadata=_RELAY)
        async with trio.open_nursery() as nursery:
            while True:
                message = read_relayed(await receive())
                if message is None:
                    self._services.count(("longpoll", "malformed"))
                else:
                    self._take(message, nursery)

    def _node_down(self, event: Event, _: Any, about: Mapping[str, Any]) -> None:
        """Answer the requests for a node that has stopped. A silent node may still answer them in time."""
        if about["pubsub"] is not self._services.pubsub or about["reason"] != "goodbye":
            return
        name = about["node"].name
        self._stopped.pop(name, None)
        self._stopped[name] = None
        if len(self._stopped) > _MAX_STOPPED:
            del self._stopped[next(iter(self._stopped))]
        for asked in self._asked.values():
            # A session that has been found answers before its node says goodbye, but on another lane. So the goodbye
            # may overtake the answer.
            if asked.node == name and not asked.found.is_set():
                asked.end()

    def _node_up(self, event: Event, _: Any, about: Mapping[str, Any]) -> None:
        if about["pubsub"] is self._services.pubsub:
            self._stopped.pop(about["node"].name, None)

    @property
    def _topic(self) -> str:
        return relay_topic(self._services.pubsub.node_name)

    # Requests that came to this node

    async def poll(self, place: Place, options: LongPoll) -> PollAnswer | None:
        """Poll a session of another node.

        Returns:
            The answer; None if the session does not exist, or if its node does not report it in time.
        """
        late = messages_answer(204, place.token)
        assert late is not None, "an answer without messages is text"
        admission = self._services.admission
        if admission.draining:
            # An empty answer makes the client poll again, and that poll reaches another server.
            return late
        message = ForwardedPoll(
            id=self._next_id(),
            node=self._services.pubsub.node_name,
            token=place.token,
            find=options.pubsub_timeout,
            window=options.window,
        )
        with trio.CancelScope() as scope, admission.ending_at_drain(scope):
            return await self._forward(place.node, message, b"", late)
        return late

    async def post(
        self, place: Place, body: bytes, content_type: str | None, options: LongPoll
    ) -> PollAnswer | None:
        """Send the body of a POST to a session of another node. The result is as for `poll`."""
        message = ForwardedPost(
            id=self._next_id(),
            node=self._services.pubsub.node_name,
            token=place.token,
            find=options.pubsub_timeout,
            window=options.window,
            content_type=content_type,
            size=len(body),
            data=body[:PIECE],
        )
        return await self._forward(place.node, message, body, status_answer(408))

    def _next_id(self) -> str:
        return f"{self._name}.{next(self._numbers)}"

    async def _forward(
        self, node: str, message: ForwardedPoll | ForwardedPost, body: bytes, late: PollAnswer
    ) -> PollAnswer | None:
        if len(self._asked) >= self._max_together:
            self._report(node, f"{self._max_together} forwarded requests wait already")
            return plain_answer(503)
        if node in self._stopped:
            return None
        asked = self._asked[message.id] = _Asked(node, body)
        try:
            if not self._tell(node, message):
                return None
            self._services.count(("longpoll", "forwarded"))
            with trio.move_on_after(message.find):
                await asked.found.wait()
            if not asked.found.is_set():
                self._report(node, f"no sign of the session within {message.find:g} s")
                return None
            # The other node may use the whole window, and its answer then takes some time to arrive.
            with trio.move_on_after(message.window + message.find):
                return await self._answer_to(message.id, asked)
            self._report(node, f"no answer within {message.window + message.find:g} s")
            return late
        finally:
            del self._asked[message.id]
            if isinstance(message, ForwardedPoll) and not asked.is_over:
                self._tell(node, NotDelivered(message.id))

    async def _answer_to(self, id: str, asked: _Asked) -> PollAnswer | None:
        await asked.answered.wait()
        answer = asked.answer
        if answer is None:
            return None
        arriving = asked.arriving = Arriving(answer.size, answer.data)
        with self._hold(answer.size) as fits:
            if not fits:
                self._report(asked.node, f"no memory for an answer of {answer.size} bytes")
                return plain_answer(503)
            body = await self._rest_of(id, asked, arriving)
            if asked.answer is None:
                return None
            # No checkpoint from here to the caller, so the caller always gets the answer that this confirms.
            asked.is_over = True
            if answer.confirm:
                self._tell(asked.node, Delivered(id))
            return relayed_answer(answer.status, body)

    def _heard(self, asked: _Asked, message: Relayed) -> None:
        asked.found.set()
        if isinstance(message, NotFound):
            asked.end()
        elif isinstance(message, Answer) and not asked.answered.is_set():
            asked.answer = message
            asked.answered.set()

    # Requests that came to other nodes

    def _accept(self, message: ForwardedPoll | ForwardedPost, nursery: trio.Nursery) -> None:
        if len(self._served) >= self._max_together:
            self._report(message.node, f"{self._max_together} requests of nodes wait here already")
            self._answer(message.node, message.id, plain_answer(503))
        elif message.id not in self._served:
            arriving = None
            if isinstance(message, ForwardedPost):
                arriving = Arriving(message.size, message.data)
            served = self._served[message.id] = _Served(message.node, arriving)
            nursery.start_soon(self._serve, message, served)

    async def _serve(self, message: ForwardedPoll | ForwardedPost, served: _Served) -> None:
        try:
            with served.scope:
                place = self._sessions.place(message.token)
                pid = None
                if place is not None:
                    pid = await self._sessions.find(place, message.find)
                if place is None or pid is None:
                    if self._is_alone():
                        self._tell(message.node, NotFound(message.id))
                    return
                served.pid = pid
                self._services.count(("longpoll", "served"))
                self._tell(message.node, Found(message.id))
                if isinstance(message, ForwardedPost):
                    await self._serve_post(message, served, pid)
                else:
                    await self._serve_poll(message, served, pid)
        finally:
            del self._served[message.id]

    def _is_alone(self) -> bool:
        """Return True if no other endpoint of this node has a relay. If one does, it may have the session."""
        subscriptions = self._services.pubsub.subscriptions(self._topic)
        return sum(each.metadata is _RELAY for each in subscriptions) == 1

    async def _serve_poll(self, message: ForwardedPoll, served: _Served, pid: Pid) -> None:
        poll = served.poll = Poll(confirm_within=message.find)
        messages = await self._sessions.poll(pid, poll, message.window)
        if messages is None and self._services.admission.draining and not is_alive(pid):
            # The client gets a new session on the other node at once, instead of a poll that finds this node gone.
            self._tell(message.node, NotFound(message.id))
            return
        answer = self._sessions.answer(message.token, messages, pid)
        served.sent = answer.body
        if not self._answer(message.node, message.id, answer, confirm=messages is not None):
            # The session ends when its own time for the confirmation is up.
            self._tell(message.node, NotFound(message.id))
        elif messages is not None:
            with trio.move_on_after(message.find):
                await served.confirmed.wait()
            if not served.confirmed.is_set():
                # The session ends too, after the same time. Tell the other node now, so that it does not wait.
                self._tell(message.node, NotFound(message.id))

    async def _serve_post(self, message: ForwardedPost, served: _Served, pid: Pid) -> None:
        answer = status_answer(408)
        if message.size > self._max_body:
            answer = plain_answer(400)
        else:
            with trio.move_on_after(message.window), self._hold(message.size) as fits:
                if fits:
                    arriving = cast("Arriving", served.arriving)
                    body = await self._rest_of(message.id, served, arriving)
                    answer = await self._sessions.post(
                        pid, body, message.content_type, message.window
                    )
                else:
                    self._report(message.node, f"no memory for a body of {message.size} bytes")
                    answer = plain_answer(503)
        self._answer(message.node, message.id, answer)

    # Messages

    def _take(self, message: Relayed, nursery: trio.Nursery) -> None:
        if isinstance(message, ForwardedPoll | ForwardedPost):
            self._accept(message, nursery)
            return
        asked, served = self._asked.get(message.id), self._served.get(message.id)
        exchange = asked or served
        if exchange is None:
            # The request has ended, or another endpoint of this node forwarded or serves it.
            return
        if isinstance(message, More):
            self._send_pieces(message, exchange)
        elif isinstance(message, Piece):
            self._take_piece(message, exchange)
        elif asked is not None:
            self._heard(asked, message)
        elif served is not None and isinstance(message, Delivered):
            served.confirm(delivered=True)
            served.confirmed.set()
        elif served is not None and isinstance(message, NotDelivered):
            served.confirm(delivered=False)
            served.scope.cancel()

    def _tell(self, node: str, message: Relayed) -> bool:
        """Send a message to a node. If PubSub refuses it, report the problem and return False."""
        try:
            self._services.pubsub.direct_broadcast(node, relay_topic(node), message)
        except ChannelsError as error:
            self._report(node, str(error))
            return False
        return True

    def _answer(self, node: str, id: str, answer: PollAnswer, *, confirm: bool = False) -> bool:
        body = answer.body
        return self._tell(node, Answer(id, answer.status, len(body), body[:PIECE], confirm))

    def _report(self, node: str, problem: str) -> None:
        self._services.count(LONGPOLL_NOT_FORWARDED)
        self._services.runtime.telemetry.execute(
            LONGPOLL_NOT_FORWARDED,
            {},
            {"endpoint": self._services.endpoint, "node": node, "problem": problem},
        )

    # Bodies in pieces

    async def _rest_of(self, id: str, exchange: _Exchange, arriving: Arriving) -> bytes:
        """Request the rest of a body, wait for it, and return the whole body."""
        self._continue(id, exchange, arriving)
        await exchange.complete.wait()
        return arriving.whole()

    def _take_piece(self, piece: Piece, exchange: _Exchange) -> None:
        arriving = exchange.arriving
        # `add` refuses a piece after a lost one. The time limit of the request then ends the request.
        if arriving is not None and arriving.add(piece.offset, piece.data):
            self._continue(piece.id, exchange, arriving)

    def _continue(self, id: str, exchange: _Exchange, arriving: Arriving) -> None:
        offset = arriving.wants()
        if offset is not None:
            self._tell(exchange.node, More(id, offset))
        elif arriving.is_whole:
            exchange.complete.set()

    def _send_pieces(self, more: More, exchange: _Exchange) -> None:
        for offset in range(more.offset, more.offset + PIECES * PIECE, PIECE):
            data = exchange.sent[offset : offset + PIECE]
            if not data or not self._tell(exchange.node, Piece(more.id, offset, data)):
                return
