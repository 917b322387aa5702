"""Signed messages, `header.payload.signature` in URL-safe base64, and the derivation of their keys.

*pure*. Source: MessageVerifier of Plug.Crypto, which Phoenix.Token uses.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache
from typing import Final

__all__ = ["DIGESTS", "MAX_TOKEN", "Malformed", "Signed", "decode64", "derive", "encode64"]

DIGESTS: Final = ("sha1", "sha224", "sha256", "sha384", "sha512")
"""Hash functions for the derivation of a key."""

MAX_TOKEN: Final = 100_000
"""The maximum characters of a token. A token with the longest term is shorter."""

_HEADER = "SFMyNTY"  # HS256
_MACS = {_HEADER: "sha256", "SFMzODQ": "sha384", "SFM1MTI": "sha512"}


class Malformed(ValueError):
    """A text does not have the form of a token."""


# Cached, because key derivation is slow on purpose, and a program needs the same few keys often. The cache is bounded,
# so that a program with many salts does not leak memory.
@lru_cache(maxsize=256)
def derive(secret: bytes, salt: bytes, iterations: int, length: int, digest: str) -> bytes:
    """Derive a key from a secret with PBKDF2."""
    return hashlib.pbkdf2_hmac(digest, secret, salt, iterations, length)


class Signed:
    """A received message, parsed but not verified."""

    __slots__ = ("_mac", "_signature", "_text", "payload")

    def __init__(self, text: str) -> None:
        """Parse a received message.

        Raises:
            Malformed: the text does not have the form of a signed message.
        """
        segments = text.split(".")
        if len(segments) != 3:
            raise Malformed("it does not have three parts separated by dots")
        header, payload, signature = segments
        mac = _MACS.get(header.rstrip("="))
        if mac is None:
            raise Malformed("its header names an unknown signature")
        self._mac = mac
        self.payload = decode64(payload)
        self._signature = decode64(signature)
        self._text = f"{header}.{payload}".encode("ascii")

    def is_by(self, key: bytes) -> bool:
        """Return True if this key signed the message. The comparison takes constant time."""
        return hmac.compare_digest(hmac.digest(key, self._text, self._mac), self._signature)

    @staticmethod
    def make(key: bytes, payload: bytes) -> str:
        """Sign a payload."""
        text = f"{_HEADER}.{encode64(payload)}"
        return f"{text}.{encode64(hmac.digest(key, text.encode('ascii'), 'sha256'))}"


def encode64(data: bytes) -> str:
    """Encode as URL-safe base64, without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def decode64(text: str) -> bytes:
    """Decode URL-safe base64 in canonical form, with its padding or without.

    Most decoders accept several texts for the same bytes, which differ in the last characters. So many different texts
    would be the same token.

    Raises:
        Malformed: the text is not such base64.
    """
    bare = text.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    if text not in {bare, padded}:
        raise Malformed("its base64 has the wrong padding")
    try:
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("it contains characters that are not URL-safe base64") from None
    if encode64(data) != bare:
        raise Malformed("its base64 is not in the canonical form")
    return data
