"""The routing table, which maps topics to channels.

*pure*. A pattern is a whole topic (`room:lobby`) or a prefix followed by `*` (`room:*`). The first matching pattern
counts, so write narrow patterns first. As in Phoenix, the `*` can only be the last character.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import Attribute, field, frozen

from actors.errors import InvalidArgument

__all__ = ["INTERNAL", "Route", "Router"]

INTERNAL: Final = "ashtree:"
"""The prefix of all topics for messages between nodes. No route matches them: they carry data of other clients."""

_SPLAT = "*"


def _check_pattern(_route: Route, _attribute: Attribute[str], pattern: Any) -> None:
    if not isinstance(pattern, str):
        raise InvalidArgument(
            None,
            pattern,
            f"a channel route got the pattern {pattern!r} of type {type(pattern).__name__}; "
            f"write a string such as 'room:*'",
        )
    beginning, splat, rest = pattern.partition(_SPLAT)
    if splat and rest:
        raise InvalidArgument(
            None,
            pattern,
            f"the channel route {pattern!r} has a '*' before its end; write "
            f"{beginning + _SPLAT!r}, and check the rest of the topic in the channel's join",
        )
    if pattern.startswith(INTERNAL):
        raise InvalidArgument(
            None,
            pattern,
            f"the channel route {pattern!r} matches no topic, because topics with the prefix {INTERNAL!r} are for "
            "messages between nodes; write another prefix",
        )


def _copy(assigns: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(assigns)


@frozen
class Route:
    """A route: a pattern of topics, and the channel that serves them.

        >>> Route("room:*", "RoomChannel").matches("room:lobby")
        True

    Args:
        pattern: a topic, or a prefix of topics followed by `*`. The `*` matches any text, including none. No
            pattern matches topics for messages between nodes, which begin with `ashtree:`.
        channel: the channel class that serves these topics.
        assigns: a dict of data for the channel. They override the assigns of the socket. The route keeps a copy.
        history: a `channels.durable.History`, which makes the topics durable. Give it to the endpoint too, which runs
            it. The channel then behaves like a `DurableChannel`.
        table: the handlers of the channel. The endpoint sets it.

    Raises:
        InvalidArgument: the pattern is not a string, has a `*` before its end, or begins with `ashtree:`.
    """

    pattern: str = field(validator=_check_pattern)
    channel: Any
    assigns: Mapping[str, Any] = field(factory=dict, converter=_copy, hash=False)
    history: Any = field(default=None, kw_only=True)
    table: Any = field(default=None, kw_only=True, eq=False, repr=False)

    def matches(self, topic: str) -> bool:
        """Return True if the pattern matches a topic. This does not consider other routes.

        Args:
            topic: the topic of a join.
        """
        if self.pattern.endswith(_SPLAT):
            beginning = self.pattern[: -len(_SPLAT)]
            return topic.startswith(beginning) and not topic.startswith(INTERNAL)
        return topic == self.pattern


class Router:
    """A routing table.

        >>> router = Router([Route("room:lobby", "LobbyChannel"), Route("room:*", "RoomChannel")])
        >>> router.match("room:lobby").channel
        'LobbyChannel'
        >>> router.match("room:42").channel
        'RoomChannel'
        >>> router.match("news") is None
        True

    The router returns the first matching route. As in Phoenix, a route after a wider route has no effect, and is not an
    error. A topic that equals a pattern costs one look-up. For any other topic, the router compares the `*` patterns in
    order until one matches.
    """

    __slots__ = ("_by_beginning", "_by_topic", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._by_topic: dict[str, Route] = {}
        self._by_beginning: list[tuple[str, Route]] = []
        for route in self.routes:
            pattern = route.pattern
            if pattern.endswith(_SPLAT):
                self._by_beginning.append((pattern[: -len(_SPLAT)], route))
            # `match` looks up whole topics first. So leave out a whole topic that an earlier prefix matches.
            elif self.match(pattern) is None:
                self._by_topic[pattern] = route

    def match(self, topic: str) -> Route | None:
        """Return the route for a topic; None if there is none, as for topics with the prefix `INTERNAL`."""
        route = self._by_topic.get(topic)
        if route is not None:
            return route
        if topic.startswith(INTERNAL):
            return None
        for beginning, splat_route in self._by_beginning:
            if topic.startswith(beginning):
                return splat_route
        return None
