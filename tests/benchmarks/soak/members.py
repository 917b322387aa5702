"""Clients that stay: each joins a room, a durable document and a lobby with presence, and rejoins after each end.

A member behaves like phoenix.js: it reconnects after each end of its connection, rejoins a channel that has crashed,
and joins a durable topic with its last position. It repeats an edit with the same key until it gets the reply.
"""

from __future__ import annotations

import uuid
from typing import Any

import trio
from attrs import Factory, define

from tests.benchmarks.soak.clients import PATIENCE, Gone, Line, World, open_line
from tests.benchmarks.soak.ledger import Copy, Message, Said, Stay

__all__ = ["Log", "Member"]

RETRIES = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5)
"""Seconds between two attempts to connect, as in phoenix.js."""

REJOIN = 1.0
"""Seconds until a member joins a crashed channel again."""


class ChannelCrashed(Exception):
    """The server has ended the channel of a push."""


@define
class Log:
    """The messages and memberships of all members, for `ledger`."""

    said: list[Said] = Factory(list)
    stays: list[Stay] = Factory(list)
    edits: list[Said] = Factory(list)
    copies: list[Copy] = Factory(list)


@define(eq=False)
class _Question:
    """A push that waits for its reply."""

    topic: str
    event: str
    answered: trio.Event = Factory(trio.Event)
    answer: Any = None


@define(eq=False)
class Member:
    """A client that stays.

    Attributes:
        name: its name, and its key in the presence.
        world: the state that all clients share.
        port: the port of its server.
        group: the number of its room, document and lobby.
        log: gets all its messages and memberships.
        stay: the number of its present stay in the lobby.
        view: the presences that it sees: the stays by client, and each stay by its reference.
        joins: the topics that it has joined, with their join references.
        is_quiet: True makes the client only listen, and finish the edit that it has begun.
    """

    name: str
    world: World
    port: int
    group: int
    log: Log
    stay: int = 0
    view: dict[str, dict[str, int]] = Factory(dict)
    joins: dict[str, str] = Factory(dict)
    is_quiet: bool = False
    _said: int = 0
    _edited: int = 0
    _position: str | None = None
    _copy: Copy = Factory(lambda self: Copy(self.name, self.document), takes_self=True)
    _key: str | None = None
    _first_sent: float = 0.0
    _room_stay: Stay | None = None
    _waiting: dict[str, _Question] = Factory(dict)
    _current: dict[str, str] = Factory(dict)
    _crashes: dict[str, trio.Event] = Factory(dict)

    def __attrs_post_init__(self) -> None:
        self.log.copies.append(self._copy)

    @property
    def room(self) -> str:
        return f"room:members{self.group}"

    @property
    def document(self) -> str:
        return f"document:{self.group}"

    @property
    def lobby(self) -> str:
        return f"lobby:{self.group}"

    @property
    def has_joined(self) -> bool:
        """True if the client is joined to all its topics."""
        return len(self.joins) == 3

    @property
    def is_present(self) -> bool:
        """True if the client is joined to its lobby."""
        return self.lobby in self.joins

    @property
    def is_idle(self) -> bool:
        """True if no edit waits for its reply."""
        return self._key is None

    async def live(self) -> None:
        """Connect, and reconnect after each end."""
        attempt = 0
        while True:
            try:
                async with open_line(self.world, port=self.port) as line:
                    attempt = 0
                    await self._take_part(line)
            except* (Gone, trio.BrokenResourceError, trio.TooSlowError) as ended:
                self._note_end(ended)
            self._leave()
            await trio.sleep(RETRIES[min(attempt, len(RETRIES) - 1)])
            attempt += 1

    def _note_end(self, ended: BaseExceptionGroup[BaseException]) -> None:
        """Count ends that only a fault may cause: cut connections, and replies that never came."""
        if not self.joins:
            return  # The connection was not open yet. `World.stream` counts a refused one.
        gone, late = ended.split(Gone)
        if late is not None and late.subgroup(trio.TooSlowError) is not None:
            self.world.counts["lost_replies"] += 1
        code = None
        if gone is not None:
            first: Any = gone
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            code = first.code
        if code != 1012:
            self.world.note("cut")

    def _leave(self) -> None:
        now = trio.current_time()
        if self._room_stay is not None:
            self._room_stay.left = now
            self._room_stay = None
        self.joins.clear()
        self.view.clear()
        self._waiting.clear()

    async def _take_part(self, line: Line) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, line)
            node = await self._join_lobby(line)
            nursery.start_soon(self._talk, line, node)
            nursery.start_soon(self._edit, line)

    # The lobby

    async def _join_lobby(self, line: Line) -> int:
        self.stay += 1
        payload = {"member": self.name, "stay": self.stay}
        answer = await self._join(line, self.lobby, payload)
        assert answer["status"] == "ok", answer
        node: int = answer["response"]["pid"]
        return node

    def _see(self, event: str, payload: dict[str, Any]) -> None:
        if event == "presence_state":
            self.view = {key: _refs(presence) for key, presence in payload.items()}
            return
        for key, presence in payload["joins"].items():
            self.view.setdefault(key, {}).update(_refs(presence))
        for key, presence in payload["leaves"].items():
            there = self.view.get(key, {})
            for ref in _refs(presence):
                there.pop(ref, None)
            if not there:
                self.view.pop(key, None)

    # The room

    async def _talk(self, line: Line, node: int) -> None:
        answer = await self._join(line, self.room, {})
        assert answer["status"] == "ok", answer
        self._room_stay = Stay(self.name, self.room, node, trio.current_time())
        self.log.stays.append(self._room_stay)
        while True:
            await trio.sleep(self.world.random.uniform(0.2, 0.8))
            if not self.is_quiet:
                self._said += 1
                message = (self.name, self._said)
                sent = trio.current_time()
                await self._ask(line, self.room, "say", {"by": message})
                self.log.said.append(Said(self.room, message, node, sent, trio.current_time()))

    # The document

    async def _edit(self, line: Line) -> None:
        while True:
            params = {} if self._position is None else {"_position": self._position}
            try:
                answer = await self._join(line, self.document, params)
                if answer["status"] == "ok":
                    await self._make_edits(line)
            except ChannelCrashed:
                self.world.counts["document_crashes"] += 1
            self.joins.pop(self.document, None)
            await trio.sleep(REJOIN)

    def _recover(self, response: dict[str, Any]) -> None:
        if self._position is None:
            self._copy.joined = trio.current_time()
        elif not response["_recovered"]:
            self._copy.not_recovered.append(response["_reason"])
        self._position = response["_position"]

    async def _make_edits(self, line: Line) -> None:
        crashed = self._crashes[self.document]
        while True:
            if self._key is None:
                with trio.move_on_after(self.world.random.uniform(0.5, 1.5)):
                    await crashed.wait()
                    raise ChannelCrashed
                if self.is_quiet:
                    continue
                self._edited += 1
                self._key = str(uuid.UUID(int=self.world.random.getrandbits(128)))
                self._first_sent = trio.current_time()
            message = (self.name, self._edited)
            # A repeated push has the same key, so the history keeps the message once.
            payload = {"by": message, "_key": self._key}
            answer = await self._ask(line, self.document, "edit", payload)
            if answer["status"] == "ok":
                self.log.edits.append(
                    Said(self.document, message, 0, self._first_sent, trio.current_time())
                )
                self._key = None

    # Frames

    async def _join(self, line: Line, topic: str, payload: dict[str, Any]) -> Any:
        join_ref = f"{self.name}.{uuid.UUID(int=self.world.random.getrandbits(128))}"
        self._crashes[topic] = trio.Event()
        self._current[topic] = join_ref
        answer = await self._ask(line, topic, "phx_join", payload)
        if answer["status"] == "ok":
            self.joins[topic] = join_ref
        return answer

    async def _ask(self, line: Line, topic: str, event: str, payload: dict[str, Any]) -> Any:
        """Push, and return the payload of the reply.

        Raises:
            ChannelCrashed: the channel has crashed.
            trio.TooSlowError: the reply is lost.
        """
        question = _Question(topic, event)
        ref = line.make_ref()
        self._waiting[ref] = question
        with trio.fail_after(PATIENCE):
            await line.push(topic, event, payload, self._current[topic], ref)
            await question.answered.wait()
        if question.answer is None:
            raise ChannelCrashed
        return question.answer

    async def _read(self, line: Line) -> None:
        while True:
            join_ref, ref, topic, event, payload = await line.next()
            if join_ref is not None and join_ref != self._current.get(topic):
                continue  # It belongs to an earlier join, as in phoenix.js.
            match event:
                case "phx_reply":
                    self._take_reply(self._waiting.pop(ref), payload)
                case "phx_error" | "phx_close":
                    self._end_channel(topic)
                case "said":
                    if self._room_stay is not None:
                        self._room_stay.hear(_message(payload), trio.current_time())
                case "edited":
                    self._position = payload["_position"]
                    self._copy.hear(_message(payload))
                case "presence_state" | "presence_diff":
                    self._see(event, payload)

    def _take_reply(self, question: _Question, payload: dict[str, Any]) -> None:
        question.answer = payload
        question.answered.set()
        is_join = question.event == "phx_join" and question.topic == self.document
        if is_join and payload["status"] == "ok":
            # Now, and not in the task that has joined, because the missed messages follow in the same read.
            self._recover(payload["response"])

    def _end_channel(self, topic: str) -> None:
        if topic != self.document:
            self.world.counts["member_crashes"] += 1
            raise Gone(None)
        self._crashes[topic].set()
        for ref, question in list(self._waiting.items()):
            if question.topic == topic:
                del self._waiting[ref]
                question.answered.set()


def _message(payload: dict[str, Any]) -> Message:
    sender, number = payload["by"]
    return sender, number


def _refs(presence: dict[str, Any]) -> dict[str, int]:
    return {meta["phx_ref"]: meta["stay"] for meta in presence["metas"]}
