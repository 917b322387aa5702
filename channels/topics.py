"""Which channel serves which topic: patterns in the order of their declaration.

*pure*. A pattern is a whole topic (`room:lobby`) or a beginning followed by a splat (`room:*`).
The first pattern that fits wins, so the narrow ones come first. As in Phoenix's socket routes,
a splat may only be the last character.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import Attribute, field, frozen

from channels.errors import InvalidRoute

__all__ = ["Route", "Router"]

_SPLAT = "*"


def _check_pattern(_route: Route, _attribute: Attribute[str], pattern: Any) -> None:
    if not isinstance(pattern, str):
        raise InvalidRoute(
            f"a channel route needs its pattern as a string such as 'room:*', "
            f"but got {pattern!r} of type {type(pattern).__name__}",
            pattern=pattern,
        )
    beginning, splat, rest = pattern.partition(_SPLAT)
    if splat and rest:
        raise InvalidRoute(
            f"the channel route {pattern!r} has a '*' before its end, where it cannot work: "
            f"write {beginning + _SPLAT!r} and let the channel's join look at the rest of "
            f"the topic",
            pattern=pattern,
        )


def _copy(assigns: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(assigns)


@frozen
class Route:
    """One line of a routing table: topics that look like this belong to that channel.

        >>> Route("room:*", "RoomChannel").matches("room:lobby")
        True

    - `pattern`: a topic, or a beginning of topics followed by `*`, which stands for anything,
      nothing included (`*` alone matches every topic);
    - `channel`: the channel class that serves them;
    - `assigns`: laid over the assigns of the socket when such a topic is joined. It is copied.

    Raises `InvalidRoute` if the pattern is not a string or has a `*` anywhere but at its end.
    """

    pattern: str = field(validator=_check_pattern)
    channel: Any
    assigns: Mapping[str, Any] = field(factory=dict, converter=_copy, hash=False)

    def matches(self, topic: str) -> bool:
        """Tell whether the pattern fits a topic, whatever other routes there are."""
        if self.pattern.endswith(_SPLAT):
            return topic.startswith(self.pattern[: -len(_SPLAT)])
        return topic == self.pattern


class Router:
    """A routing table, ready to be asked.

        >>> router = Router([Route("room:lobby", "LobbyChannel"), Route("room:*", "RoomChannel")])
        >>> router.match("room:lobby").channel
        'LobbyChannel'
        >>> router.match("room:42").channel
        'RoomChannel'
        >>> router.match("news") is None
        True

    Routes are tried in the order given, and the first that fits is the answer: a route behind a
    wider one is never reached, which is allowed, as in Phoenix. Asking for a topic that is named
    in full costs one look-up, any other costs one comparison per splat before the one that fits.
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
            # What an earlier route takes is left out here, so that looking up whole topics
            # first cannot overtake the order of declaration.
            elif self.match(pattern) is None:
                self._by_topic[pattern] = route

    def match(self, topic: str) -> Route | None:
        """Find the route for a topic; None if there is none."""
        route = self._by_topic.get(topic)
        if route is not None:
            return route
        for beginning, splat_route in self._by_beginning:
            if topic.startswith(beginning):
                return splat_route
        return None
