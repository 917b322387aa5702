"""The encoding of requests, answers and handed-over states. *pure*, apart from the hooks for addresses.

A request that stays on its node is encoded and decoded too. So a value that cannot travel raises the same error on one
node as on several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actors.text import brief
from channels.errors import ChannelsError
from channels.serializers.json_values import NOT_DECODABLE, NOT_ENCODABLE, explain

__all__ = ["CannotTravel", "Codec"]


class CannotTravel(ChannelsError):
    """A value cannot be encoded or decoded, is too large, or would arrive as another value.

    Attributes:
        problem: the reason, as text.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Codec:
    """The encoding of the values of one type.

    Args:
        option: the attribute of the entity's class that declares the type, such as `"requests"`.
        kind: the type; `Any` for JSON values.
        enc_hook: encodes the values that msgspec does not know.
        dec_hook: decodes them.
    """

    def __init__(
        self,
        option: str,
        kind: Any,
        enc_hook: Callable[[Any], Any] | None = None,
        dec_hook: Callable[[type, Any], Any] | None = None,
    ) -> None:
        self._option = option
        self._is_json = kind is Any
        self._encode = msgspec.json.Encoder(enc_hook=enc_hook).encode
        self._decode = msgspec.json.Decoder(kind, dec_hook=dec_hook).decode

    def encode(self, value: Any) -> tuple[bytes, Any]:
        """Return the encoded value, and the value that arrives.

        Raises:
            CannotTravel: the value is not of the declared type.
        """
        try:
            body = self._encode(value)
        except (*NOT_ENCODABLE, NotImplementedError) as fault:
            raise CannotTravel(f"{explain(value, fault)}; {self._advice}") from None
        try:
            arrived = self._decode(body)
        except NOT_DECODABLE as fault:
            raise CannotTravel(f"{brief(value)} does not fit: {fault}; {self._advice}") from None
        if self._is_json and arrived != value:
            raise CannotTravel(f"{brief(value)} would arrive as {brief(arrived)}; {self._advice}")
        return body, arrived

    def decode(self, body: bytes | msgspec.Raw) -> Any:
        """Return the decoded value.

        Raises:
            CannotTravel: the bytes are not an encoded value of the declared type.
        """
        try:
            return self._decode(body)
        except NOT_DECODABLE as fault:
            raise CannotTravel(f"the value does not fit `{self._option}`: {fault}") from None

    @property
    def _advice(self) -> str:
        if self._is_json:
            return f"write a JSON value, or declare its type in `{self._option}` of the entity"
        return f"the entity declares the types that it takes in `{self._option}`"
