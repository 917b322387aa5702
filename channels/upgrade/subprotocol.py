"""Which subprotocol a WebSocket speaks, and the token that phoenix.js hides among those that it offers.

*pure*. Browsers let a page set no header of a WebSocket but `Sec-WebSocket-Protocol`, so phoenix.js's `authToken`
travels there, in base64: `phoenix, base64url.bearer.phx.c2VjcmV0`. The answer is `phoenix`, and never the token.

Source: RFC 6455, section 4.2.2; Phoenix 1.8.12, with one difference: there a token that is no base64 is an HTTP 500.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from attrs import field, frozen

__all__ = ["Agreed", "agree"]

_PHOENIX = "phoenix"
_BEARER = "base64url.bearer.phx."
_STANDARD = str.maketrans("-_", "+/")


@frozen(kw_only=True)
class Agreed:
    """What was agreed on: `name`, the subprotocol to answer, or None; `token`, phoenix.js's `authToken`, or None."""

    name: str | None = None
    token: str | None = field(default=None, repr=False)


def agree(
    offered: str | None, configured: Sequence[str] | None, *, auth_token: bool
) -> Agreed | None:
    """Choose among what a client offers; None refuses it.

        >>> agree("phoenix, base64url.bearer.phx.c2VjcmV0", None, auth_token=True).name
        'phoenix'
        >>> agree("soap", ["chat.v2", "chat.v1"], auth_token=False) is None
        True

    Args:
        offered: the header `Sec-WebSocket-Protocol`; None if it was not sent, which is fine.
        configured: those on offer, in the order of preference; None looks at nothing, and answers nothing.
        auth_token: whether to look for a token.
    """
    names = (
        [] if offered is None else [name for each in offered.split(",") if (name := each.strip())]
    )
    token = None
    if auth_token:
        configured = (_PHOENIX, *(configured or ()))
        encoded = [name for name in names if name.startswith(_BEARER)]
        if len(encoded) == 1:
            names.remove(encoded[0])
            token = _decode(encoded[0][len(_BEARER) :])
            if token is None:
                return None
    if configured is None or not names:
        return Agreed(token=token)
    for name in configured:
        if name in names:
            return Agreed(name=name, token=token)
    return None


def _decode(text: str) -> str | None:
    try:
        padded = text.rstrip("=").translate(_STANDARD)
        padded += "=" * (-len(padded) % 4)
        return base64.b64decode(padded, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
