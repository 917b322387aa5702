"""The messages between the routers of several nodes. *pure*.

A *stream* is the requests of one node to one key, in the order in which that node sent them. Each request has a *turn*,
which grows over all streams of its node. The *generation* of a stream is the turn of its first request. If a node
cannot take a request of a stream, it answers `Moved` and refuses all later requests of that generation. The sender then
sends the refused requests again, in order, with a new generation. So the requests of a stream run in order, although
the key moves.

    Hello                       to all nodes: this node runs, with these labels
    Ask                         a request for a key, to the node that probably owns it
    Accepted, Answer, Failed    the ends of a request
    Moved                       the node refuses this request and all later ones of its generation
    Handover, HandedOver        the state and the waiting requests of a key, to its new owner, in parts
    Forwarded                   the requests that went to the new owner with a handover

`channels.entities.remote` adds the messages about processes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from channels.entities.remote import ProcessId
from channels.pubsub.adapter import Node

__all__ = [
    "MAX_KEY",
    "VERSION",
    "Accepted",
    "Answer",
    "Ask",
    "Cargo",
    "Carried",
    "Failed",
    "Forwarded",
    "GaveUp",
    "HandedOver",
    "Handover",
    "Hello",
    "Moved",
    "RouterMessage",
    "Verb",
    "Withdraw",
]

VERSION = 1
"""The version of these messages."""

MAX_KEY = 255
"""The longest key, in characters."""

Verb: TypeAlias = Literal["call", "cast", "send", "start", "stop", "alarm", "locate"]
"""The kind of a request. `locate` asks for the process of a key, and starts none."""

Key: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_KEY)]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=str.lower, omit_defaults=True):
    pass


class Hello(_Message, frozen=True, kw_only=True):
    """The sender runs. It sends this to all nodes at regular times, and when something changes.

    Attributes:
        labels: the labels of the node.
        draining: True if the node takes no further keys.
        drained: True if the node has no keys any more.
        goodbye: True if the node stops now.
        answer: True if the sender asks the receivers to say hello too.
    """

    version: int = VERSION
    labels: tuple[str, ...] = ()
    draining: bool = False
    drained: bool = False
    goodbye: bool = False
    answer: bool = False


class Ask(_Message, frozen=True, kw_only=True):
    """A request for a key.

    Attributes:
        id: the number of the request, for the node that sent it first.
        turn: the place of the request among all that its node has sent.
        generation: the generation of the stream.
        key: the key.
        verb: the kind of request.
        body: the encoded request.
        seconds: the seconds that are left for it.
        hops: the number of nodes that have refused it so far.
        chain: the entities that wait for the answer, as `name/key`, the first caller first.
        process: the calling process; None if the caller is not a process.
    """

    id: int
    turn: int
    generation: int
    key: Key
    verb: Verb
    body: msgspec.Raw = msgspec.Raw(b"null")
    seconds: float = 0.0
    hops: int = 0
    chain: tuple[str, ...] = ()
    process: ProcessId | None = None


class Accepted(_Message, frozen=True, kw_only=True):
    """The owner has got a request that needs no answer."""

    id: int


class Answer(_Message, frozen=True, kw_only=True):
    """The answer to a request."""

    id: int
    body: msgspec.Raw = msgspec.Raw(b"null")


class Failed(_Message, frozen=True, kw_only=True):
    """A request has ended without an answer.

    Attributes:
        id: the number of the request.
        error: the name of the class of the error, in `channels.entities.errors`.
        problem: the text of the error.
        reason: the exit reason, as `channels.entities.remote` encodes it.
        retry_after: see `EntityStartFailed`.
    """

    id: int
    error: str
    problem: str
    reason: Any = None
    retry_after: float = 0.0


class Moved(_Message, frozen=True, kw_only=True):
    """The sender does not own the key, and refuses this request and all later requests of its generation.

    Attributes:
        turn: the place of the first refused request.
        generation: the generation.
        key: the key.
        owner: the node that owns the key, if the sender knows it.
    """

    turn: int
    generation: int
    key: Key
    owner: Node | None = None


class Withdraw(_Message, frozen=True, kw_only=True):
    """The caller of a request has given up, so the request need not begin any more.

    Attributes:
        key: the key.
        id: the number of the request.
    """

    key: Key
    id: int


class GaveUp(_Message, frozen=True, kw_only=True):
    """The sender had lost the receiver, and has failed the requests that it had sent there.

    It may have sent newer requests to another node since, so those must not begin any more.
    """


class Carried(_Message, frozen=True, kw_only=True):
    """A waiting request in a handover.

    Attributes:
        origin: the node that sent the request first, and that gets the answer.
        ask: the request.
        accepted: True if its node knows that it was accepted, and has forgotten it.
    """

    origin: Node
    ask: Ask
    accepted: bool = False


class Cargo(_Message, frozen=True, kw_only=True):
    """The contents of a handover. Its encoded form travels in parts.

    Attributes:
        state: the encoded result of `handle_handoff`.
        requests: the waiting requests, in order.
    """

    state: msgspec.Raw = msgspec.Raw(b"null")
    requests: tuple[Carried, ...] = ()


class Handover(_Message, frozen=True, kw_only=True):
    """One part of a handover to the new owner of a key.

    Attributes:
        key: the key.
        fence: the fence of the new owner.
        part: the number of this part, from 0.
        parts: the number of parts.
        data: the bytes of this part.
        more: True if parts of other handovers to this node wait behind it.
    """

    key: Key
    fence: int
    part: int
    parts: int
    data: bytes
    more: bool = False


class HandedOver(_Message, frozen=True, kw_only=True):
    """A part of a handover has arrived at the new owner.

    Attributes:
        key: the key.
        fence: the fence of the new owner.
        part: the number of the part.
        complete: True if the new owner has all parts now.
        given_up: True if no other part needs to come, because the entity has started without this handover, or because
            this node takes no handover of this size.
    """

    key: Key
    fence: int
    part: int = 0
    complete: bool = False
    given_up: bool = False


class Forwarded(_Message, frozen=True, kw_only=True):
    """Requests of the receiver went to the new owner of the key with a handover.

    Attributes:
        key: the key.
        ids: the numbers of the requests.
        owner: the new owner.
        fence: the fence of the new owner. The message may arrive after that of a later owner.
    """

    key: Key
    ids: tuple[int, ...]
    owner: Node
    fence: int


RouterMessage: TypeAlias = (
    Hello
    | Ask
    | Accepted
    | Answer
    | Failed
    | Moved
    | Withdraw
    | GaveUp
    | Handover
    | HandedOver
    | Forwarded
)
