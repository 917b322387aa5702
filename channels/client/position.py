"""The position of a client in a durable topic, which it sends at each join to get what it missed.

*pure*. The server side is `channels.durable`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channels.errors import InvalidOption

__all__ = ["KEY", "PositionTracker"]

KEY = "_position"
"""The key of the position in join params, join replies and messages."""


class PositionTracker:
    """Adds the last position to the params of each join.

    >>> tracker = PositionTracker(lambda: {"name": "ann"})
    >>> tracker.note({"text": "hello", "_position": "5f1c:17"})
    >>> tracker.params()
    {'name': 'ann', '_position': '5f1c:17'}

    Args:
        params: returns the params of the program.
    """

    def __init__(self, params: Callable[[], Any]) -> None:
        self._params = params
        self.position: str | None = None

    def params(self) -> dict[str, Any]:
        """Return the payload of the next join.

        Raises:
            InvalidOption: the params of the program are not a dict.
        """
        params = self._params()
        if params is not None and not isinstance(params, dict):
            raise InvalidOption(
                "channel", "params", params, "a dict for durable=True, or a function of one"
            )
        return {**(params or {}), KEY: self.position}

    def note(self, payload: Any) -> None:
        """Keep the position in a message or in the reply to a join, if it has one."""
        if isinstance(payload, dict):
            position = payload.get(KEY)
            if isinstance(position, str):
                self.position = position
