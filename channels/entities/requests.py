"""Requests to entities: calls, casts and messages, on the node that sent them and on the node that handles them.

A request has one life, although it may travel: it waits for its entity, the entity begins to handle it, and it ends
with an answer or a failure. It may move to another mailbox or another node until the entity has begun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import trio

from actors.errors import CallTimeout, InvalidReturn
from actors.instrumentation.telemetry import Event
from actors.refs import Address, Pid, ProcessLike
from actors.servers.gen_server import CallRequest, Cast, Sender
from actors.small_set import with_item, without_item
from actors.text import bounded
from channels.entities.codec import CannotTravel, Codec
from channels.entities.errors import EntityTimeout, Failure
from channels.entities.messages import Accepted, Answer, Ask, Failed, Verb
from channels.entities.ownership import Record
from channels.pubsub.adapter import Node
from channels.serializers.json_values import NOT_DECODABLE
from channels.telemetry import ENTITY_REQUEST_ENDED

__all__ = ["GAVE_UP", "Anyone", "EntityRequest", "IncomingRequest", "LocalRequest"]

_ANSWERED = frozenset({"call", "start", "stop", "locate"})
# The answer of a request that needs none.
_NULL = msgspec.Raw(b"null")

GAVE_UP: Final = Failure("CallTimeout", "the caller gave up")
"""The end of a request whose caller no longer waits."""


class Host(Protocol):
    """The part of a router that requests use."""

    @property
    def answers(self) -> Codec: ...
    @property
    def callback(self) -> str: ...
    @property
    def observes(self) -> Callable[[Event], Any]: ...
    def post(self, node: Node, message: Any) -> None: ...
    def ended(self, request: EntityRequest, failure: Failure | None) -> None: ...
    def encode_reason(self, reason: Any) -> Any: ...
    def encode_located(self, pid: Any) -> msgspec.Raw: ...
    def decode_located(self, body: msgspec.Raw) -> Any: ...


class EntityRequest(Sender):
    """A request to an entity. For a call it is also the `sender` that `handle_call` gets.

    Attributes:
        host: the router of this node.
        number: the number of the request on the node that sent it first.
        key: the key.
        verb: the kind of request.
        content: the decoded request.
        body: the encoded request.
        deadline: the time on Trio's clock from which the entity need not begin any more.
        chain: the entities that wait for the answer, the first caller first.
        hops: the number of nodes that have refused the request.
        wants_answer: True if somebody waits for the answer.
        failure: the end of a request of this node, if there was no answer.
        node: the other node that has a request of this node; None if it is here.
        turn: the place of a request among all that this node has sent.
        fence: the fence of the latest handover that carried a request of this node; 0 if none did.
        on_end: called at the end of a request of this node that has no waiting task.
        begun: True once the entity has begun to handle the request.
        record: the record of the key, once the entity has begun.
    """

    __slots__ = (
        "begun",
        "body",
        "chain",
        "content",
        "deadline",
        "failure",
        "fence",
        "hops",
        "host",
        "key",
        "node",
        "number",
        "on_end",
        "record",
        "turn",
        "verb",
        "wants_answer",
    )

    def __init__(  # noqa: PLR0917 - by position, for speed
        self,
        host: Host,
        server: ProcessLike,
        pid: Pid | Address[Any] | None,
        number: int,
        key: str,
        verb: Verb,
        content: Any,
        body: bytes | msgspec.Raw,
        deadline: float,
        chain: tuple[str, ...],
        hops: int = 0,
    ) -> None:
        # By its name, because `super()` would take a percent of the time of a local call, here and in `answer`.
        Sender.__init__(self, pid, server)
        self.host = host
        self.number = number
        self.key = key
        self.verb = verb
        self.content = content
        self.body = body
        self.deadline = deadline
        self.chain = chain
        self.hops = hops
        self.wants_answer = verb in _ANSWERED
        self.begun = False
        self.record: Anyone | None = None
        self.failure: Failure | None = None
        self.node: Node | None = None
        self.turn = self.fence = 0
        self.on_end: Callable[[EntityRequest], None] | None = None

    def __repr__(self) -> str:
        return f"<{self.verb} {self.content!r} for {self.key!r} from {self.pid!r}>"

    @property
    def origin(self) -> Node | None:
        """The node that sent the request first; None for this node."""
        return None

    @property
    def is_late(self) -> bool:
        """True if the time of the request is over."""
        return self.deadline < trio.current_time()

    def envelope(self) -> Any:
        """Return the message for the mailbox of the entity."""
        if self.verb == "cast":
            return Cast(self)
        return CallRequest(self.content, self) if self.wants_answer else self

    def begin(self, record: Anyone) -> bool:
        """Take note that the entity begins to handle the request. Return False if nobody needs the result any more."""
        if self._done:
            return False
        self.begun = True
        if self.wants_answer:
            self.record = record
            record.open = self if record.open is None else with_item(record.open, self)
        else:
            self.accept()
            self.answer(None)
        return True

    def accept(self) -> None:
        """Take note that the owner of the key has the request."""

    def fail(self, failure: Failure) -> None:
        """End the request with a failure, unless it has ended."""
        raise NotImplementedError

    def abandon(self) -> None:
        super().abandon()
        self._end(GAVE_UP)

    def _end(self, failure: Failure | None) -> None:
        record = self.record
        if record is not None:
            record.open = None if record.open is self else without_item(record.open, self)
        if self.on_end is not None:
            self.on_end(self)
        host = self.host
        # Most requests end on their node and without an observer, so they avoid this call.
        if self.node is not None or failure is not None or host.observes(ENTITY_REQUEST_ENDED):
            host.ended(self, failure)

    def _encoded(self, value: Any) -> tuple[bytes | msgspec.Raw, Any]:
        """Return an answer in its encoded form, and as it arrives.

        Raises:
            InvalidReturn: the answer cannot travel. The entity crashes with this error.
        """
        if self.verb == "call":
            try:
                return self.host.answers.encode(value)
            except CannotTravel as error:
                problem = f"as an answer, which cannot travel: {error.problem}"
                raise InvalidReturn(self.host.callback, value, (), problem) from None
        return self.host.encode_located(value) if self.verb == "locate" else _NULL, value


Anyone = Record[EntityRequest]
"""The record of a key, with its requests."""


class LocalRequest(EntityRequest):
    """A request of this node."""

    __slots__ = ()

    def answer(self, value: Any) -> bool:
        if self._done:
            return super().answer(value)
        _, value = self._encoded(value)
        Sender.answer(self, value)
        self._end(None)
        return True

    def answer_from_afar(self, body: msgspec.Raw) -> None:
        """End the request with the answer of another node."""
        value: Any = None
        try:
            if self.verb == "call":
                value = self.host.answers.decode(body)
            elif self.verb == "locate":
                value = self.host.decode_located(body)
        except (CannotTravel, *NOT_DECODABLE) as error:
            self.fail(Failure("EntityLost", f"its answer is of another version: {error}"))
        else:
            super().answer(value)
            self._end(None)

    def fail(self, failure: Failure) -> None:
        if not self.done:
            self.failure = failure
            super().answer(None)
            self._end(failure)

    def result(self, address: object, request: Any, timeout: float) -> Any:
        """Return the answer, after the request has ended.

        Raises:
            EntityError, CallTimeout: there was no answer.
        """
        if self.failure is not None:
            raise self.failure.as_error(address, request, timeout)
        if self._failure is None:
            return self._value
        self.take_failure()
        never_ran = not self.begun and self.node is None
        raise (EntityTimeout if never_ran else CallTimeout)(address, request, timeout)


class IncomingRequest(EntityRequest):
    """A request of another node.

    Attributes:
        sent_by: that node.
        ask: the request, as it arrived.
        is_carried: True if a handover brought it here, so that its node does not take it back.
        is_accepted: True if its node knows that this node has it, and needs no answer.
    """

    __slots__ = ("ask", "is_accepted", "is_carried", "sent_by")

    def __init__(self, ask: Ask, *args: Any, sent_by: Node, is_carried: bool) -> None:
        super().__init__(*args)
        self.ask = ask
        self.sent_by = sent_by
        self.is_carried = is_carried
        self.is_accepted = False

    @property
    def origin(self) -> Node | None:
        return self.sent_by

    def is_pending_at(self, node: Node) -> bool:
        """Return True if a node has sent the request itself, and does not know that this node has accepted it."""
        return self.sent_by == node and not (self.is_carried or self.is_accepted)

    def begin(self, record: Anyone) -> bool:
        # A cast waits as long as a cast of this node, because its sender may have learnt that it was accepted.
        if self.wants_answer and self.is_late:
            self.withdraw()
        return super().begin(record)

    def accept(self) -> None:
        if not self.is_accepted and not self.wants_answer:
            self.is_accepted = True
            self.host.post(self.sent_by, Accepted(id=self.number))

    def answer(self, value: Any) -> bool:
        if self.done:
            return super().answer(value)
        body, _ = self._encoded(value)
        super().answer(None)
        if self.wants_answer:
            self.host.post(self.sent_by, Answer(id=self.number, body=msgspec.Raw(body)))
        self._end(None)
        return True

    def fail(self, failure: Failure) -> None:
        if not self.done:
            super().answer(None)
            self.report(failure)
            self._end(failure)

    def report(self, failure: Failure) -> None:
        """Tell the node of the request that it has failed."""
        reason = self.host.encode_reason(failure.reason)
        failed = Failed(
            id=self.number,
            error=failure.error,
            # A crash has the text of its exception, which may have any length.
            problem=bounded(failure.problem),
            reason=reason,
            retry_after=failure.retry_after,
        )
        self.host.post(self.sent_by, failed)

    def withdraw(self) -> None:
        """End the request here without a message to its node, unless it has ended."""
        if not self.done:
            super().answer(None)
