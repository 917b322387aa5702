"""The contract between the clients and the channels of an endpoint, from the types that the server declares.

*pure*. `typescript` and `asyncapi` write a contract as text. A JSON schema of None means that the server declares no
type.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from attrs import frozen

from channels.channel import Channel
from channels.handlers import InvalidHandler, names_of
from channels.messages import Binary
from channels.payloads import payload_type, result_type
from channels.serving.mount import Mount
from channels.socket import Socket, router_of
from channels.topics import Route

__all__ = [
    "BINARY",
    "REFS",
    "ChannelContract",
    "Contract",
    "Push",
    "Schema",
    "SocketContract",
    "contract_of",
]

Schema: TypeAlias = Mapping[str, Any]

REFS: Final = "#/components/schemas/"
"""The beginning of references to the shared types of a contract."""

BINARY: Final[Schema] = {"type": "string", "format": "binary"}
"""The schema of a `Binary`."""

_EMPTY: Final[Schema] = {"type": "object", "maxProperties": 0}


class _Empty:
    """The declared type of an empty object."""


@frozen
class Push:
    """A message from the client to the channel, with its replies.

    Attributes:
        event: the name of the event; `phx_join` for the join.
        about: the first line of the handler's docstring.
        payload: the schema of the payload.
        optional: True if a client may send an empty object.
        replies: the schemas of the replies, by status; None if the server declares no replies. Ashtree itself can also
            reply with the status `error`.
    """

    event: str
    about: str
    payload: Schema | None
    optional: bool
    replies: Mapping[str, Schema | None] | None


@frozen
class ChannelContract:
    """The messages of one channel class.

    Attributes:
        name: the name of the class. If another class has the same name, a number follows.
        about: the first line of the class's docstring.
        join: the join.
        pushes: the pushes that the channel handles.
        handles_all: True if the channel also handles all other events.
        events: the schemas of the events that the channel pushes or broadcasts; None if the class declares none.
    """

    name: str
    about: str
    join: Push
    pushes: tuple[Push, ...]
    handles_all: bool
    events: Mapping[str, Schema | None] | None


@frozen
class SocketContract:
    """The routes of one socket class.

    Attributes:
        name: the name of the class. If another class has the same name, a number follows.
        about: the first line of the class's docstring.
        paths: the paths of the endpoint that serve it.
        routes: a pattern and the name of a channel for each route, in the order of the routes.
    """

    name: str
    about: str
    paths: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]


@frozen
class Contract:
    """All sockets, channels and payload types of an endpoint.

    Attributes:
        sockets: the sockets.
        channels: the channels. A class with several routes appears once.
        types: the schemas of the payload types that have names. References begin with `REFS`.
    """

    sockets: tuple[SocketContract, ...]
    channels: tuple[ChannelContract, ...]
    types: Mapping[str, Schema]


def contract_of(sockets: Mapping[str, Any], *, taken: Collection[str] = ()) -> Contract:
    """Return the contract of the `sockets` of an endpoint.

        contract_of(endpoint.sockets)

    Args:
        sockets: the `sockets` of an endpoint.
        taken: names that no socket, channel or type may have. A class with such a name gets a number: `Push2`.

    Raises:
        InvalidHandler: a declared type has no JSON schema.
    """
    paths: dict[type[Socket], list[str]] = {}
    for path, value in sockets.items():
        socket = value.socket if isinstance(value, Mount) else value
        paths.setdefault(socket, []).append(path.rstrip("/"))
    routes = {socket: _routes(socket) for socket in paths}
    classes = list(dict.fromkeys(channel for each in routes.values() for _, channel in each))
    names: dict[type, str] = {}
    used = set(taken)
    for each in [*paths, *classes]:
        names[each] = _free(each.__name__, used)
    drafts = [_Draft(channel) for channel in classes]
    schemas, types = _schemas(drafts, used)
    return Contract(
        tuple(
            SocketContract(
                names[socket],
                _first_line(socket),
                tuple(where),
                tuple((pattern, names[channel]) for pattern, channel in routes[socket]),
            )
            for socket, where in paths.items()
        ),
        tuple(draft.finish(names[draft.channel], schemas, types) for draft in drafts),
        types,
    )


def _routes(socket: type[Socket]) -> list[tuple[str, type[Channel]]]:
    # The router checks the classes. Its own classes are not used, because it makes a new one for a durable route.
    router_of(socket)
    targets = socket.channels.items()
    routes = [
        each if isinstance(each, Route) else Route(pattern, each) for pattern, each in targets
    ]
    return [(route.pattern, route.channel) for route in routes]


def _free(name: str, used: set[str]) -> str:
    """Return an identifier for a name, and add it to the used ones."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    free, number = name, 1
    while free in used:
        number += 1
        free = f"{name}{number}"
    used.add(free)
    return free


class _Draft:
    """The declared Python types of a channel."""

    def __init__(self, channel: type[Channel]) -> None:
        self.channel = channel
        self.join = payload_type(channel, "join", 2)
        self.handlers = names_of(channel, "in")
        self.payloads = {
            event: payload_type(channel, name, 1) for event, name in self.handlers.items()
        }
        self.replies = {
            event: {
                status: _result(each)
                for status, each in (
                    declared if isinstance(declared, Mapping) else {"ok": declared}
                ).items()
            }
            for event, declared in (channel.replies or {}).items()
        }
        pushes = channel.pushes
        self.events = (
            None
            if pushes is None
            else {event: _result(declared) for event, declared in pushes.items()}
        )
        self.joined = result_type(channel, "join")

    def types(self) -> Iterable[tuple[str, Any]]:
        """Yield each declared type, with the name of the method or attribute that declares it."""
        yield "join", self.join
        yield "join", self.joined
        for event, name in self.handlers.items():
            yield name, self.payloads[event]
        for statuses in self.replies.values():
            for each in statuses.values():
                yield "replies", each
        for each in (self.events or {}).values():
            yield "pushes", each

    def finish(
        self, name: str, schemas: Mapping[int, Schema], types: Mapping[str, Schema]
    ) -> ChannelContract:
        def results(declared: Mapping[str, Any]) -> dict[str, Schema | None]:
            return {key: schemas.get(id(each)) for key, each in declared.items()}

        def push(event: str, method: str, payload: Any) -> Push:
            replies = results(self.replies[event]) if event in self.replies else None
            if event == "phx_join" and "ok" not in (replies or {}):
                # The annotation of `join` declares the reply with status `ok`, and nothing about refusals.
                joined = _joined(schemas.get(id(self.joined)))
                replies = {"ok": joined, **({"error": None} if replies is None else replies)}
            found = schemas.get(id(payload))
            optional = found is None or _accepts_nothing(found, types)
            about = _first_line(getattr(self.channel, method))
            return Push(event, about, found, optional, replies)

        return ChannelContract(
            name,
            _first_line(self.channel),
            push("phx_join", "join", self.join),
            tuple(
                push(event, method, self.payloads[event]) for event, method in self.handlers.items()
            ),
            self.channel.handle_in is not Channel.handle_in,
            None if self.events is None else results(self.events),
        )


def _result(declared: Any) -> Any:
    return _Empty if declared is None else declared


def _schemas(drafts: list[_Draft], used: set[str]) -> tuple[dict[int, Schema], dict[str, Schema]]:
    """Return the schema of each declared type by the id of the type, and the shared types by their names."""
    wanted: dict[int, Any] = {}
    known: dict[int, Schema] = {}
    for draft in drafts:
        for where, each in draft.types():
            if each is Binary:
                known[id(each)] = BINARY
            elif each is _Empty:
                known[id(each)] = _EMPTY
            elif each is not None and each is not Any and each is not object:
                _check(draft.channel, where, each)
                wanted[id(each)] = each
    schemas, components = msgspec.json.schema_components(
        list(wanted.values()), ref_template=f"{REFS}{{name}}"
    )
    # If two classes have one name, the names of msgspec contain the names of their modules. The titles do not.
    names = {
        f"{REFS}{name}": f"{REFS}{_free(found.get('title', name), used)}"
        for name, found in components.items()
    }
    for key, found in zip(wanted, schemas, strict=True):
        known[key] = _renamed(found, names)
    types = {
        names[f"{REFS}{name}"].removeprefix(REFS): _renamed(found, names)
        for name, found in components.items()
    }
    return known, types


def _check(channel: type[Channel], where: str, wanted: Any) -> None:
    try:
        msgspec.json.schema(wanted)
    except (TypeError, NameError) as error:
        shown = getattr(wanted, "__name__", wanted)
        # The first lines of msgspec's message tell how to call msgspec.
        problem = str(error).splitlines()[-1]
        raise InvalidHandler(
            f"{channel.__name__}.{where} declares the type {shown}, which has no JSON schema ({problem}); declare an "
            "attrs class, a dataclass, a TypedDict, or Any",
            channel=channel,
            handler=where,
        ) from error


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a schema with other names in its references."""
    if isinstance(value, Mapping):
        # A discriminator refers to types in a form that only OpenAPI has.
        return {
            key: names[each] if key == "$ref" else _renamed(each, names)
            for key, each in value.items()
            if key != "discriminator" or not isinstance(each, Mapping) or "propertyName" not in each
        }
    if isinstance(value, list | tuple):
        return [_renamed(each, names) for each in value]
    return value


def _joined(schema: Schema | None) -> Schema | None:
    """Return the schema of the response to a join. If `join` returns None, the client gets an empty object."""
    if schema == {"type": "null"}:
        return _EMPTY
    if schema is not None and "anyOf" in schema:
        kinds = [_EMPTY if each == {"type": "null"} else each for each in schema["anyOf"]]
        return {**schema, "anyOf": kinds}
    return schema


def _accepts_nothing(schema: Schema, types: Mapping[str, Schema]) -> bool:
    while "$ref" in schema:
        schema = types[schema["$ref"].removeprefix(REFS)]
    return schema.get("type") == "object" and not schema.get("required")


def _first_line(thing: Any) -> str:
    # The docstring of this class alone. A class without one would show the docstring of Channel.
    text = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    if getattr(thing, "__module__", "").startswith("channels."):
        # A method that the class inherits from Channel.
        return ""
    return inspect.cleandoc(text or "").partition("\n")[0]
