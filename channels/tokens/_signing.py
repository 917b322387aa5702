"""Signed messages: keys made from a secret, and `header.payload.signature` in URL-safe base64.

The format is that of Plug.Crypto's MessageVerifier, which Phoenix.Token signs with. *pure*.
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
"""Hashes that a key can be made with."""

MAX_TOKEN: Final = 100_000
"""Characters of the longest token that is looked at. The longest term fits."""

_HEADER = "SFMyNTY"  # HS256
_MACS = {_HEADER: "sha256", "SFMzODQ": "sha384", "SFM1MTI": "sha512"}


class Malformed(ValueError):
    """A text that is not made like a signed message."""


# Making a key is meant to be slow, and the same few are needed again and again. Salts come from the program's text, so
# more than these at once are a mistake, which must not become a leak.
@lru_cache(maxsize=256)
def derive(secret: bytes, salt: bytes, iterations: int, length: int, digest: str) -> bytes:
    """Make a key from a secret, with PBKDF2."""
    return hashlib.pbkdf2_hmac(digest, secret, salt, iterations, length)


class Signed:
    """A signed message: one to be made of a payload, or one that was received and is not trusted yet."""

    __slots__ = ("_mac", "_signature", "_text", "payload")

    def __init__(self, text: str) -> None:
        """Take a received message apart.

        Raises:
            Malformed: it is not made like one.
        """
        segments = text.split(".")
        if len(segments) != 3:
            raise Malformed("it does not have three parts")
        header, payload, signature = segments
        mac = _MACS.get(header.rstrip("="))
        if mac is None:
            raise Malformed("its header names no signature that is known here")
        self._mac = mac
        self.payload = decode64(payload)
        self._signature = decode64(signature)
        self._text = f"{header}.{payload}".encode("ascii")

    def is_by(self, key: bytes) -> bool:
        """Whether it was signed with that key. Takes as long for a wrong signature as for another wrong one."""
        return hmac.compare_digest(hmac.digest(key, self._text, self._mac), self._signature)

    @staticmethod
    def make(key: bytes, payload: bytes) -> str:
        """Sign a payload."""
        text = f"{_HEADER}.{encode64(payload)}"
        return f"{text}.{encode64(hmac.digest(key, text.encode('ascii'), 'sha256'))}"


def encode64(data: bytes) -> str:
    """URL-safe base64, without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def decode64(text: str) -> bytes:
    """Read URL-safe base64 with or without padding, and only if it is written as `encode64` writes it.

    A last character may otherwise be one of several for the same bytes: a token would have twins.

    Raises:
        Malformed: it is something else.
    """
    bare = text.rstrip("=")
    if text != bare and len(text) % 4:
        raise Malformed("its base64 has the wrong padding")
    try:
        data = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("it holds characters that are not URL-safe base64") from None
    if encode64(data) != bare:
        raise Malformed("its base64 is not written as it should be")
    return data
