"""Encrypted messages: XChaCha20-Poly1305, laid out as Plug.Crypto's MessageEncryptor does since version 2.

`cryptography` has ChaCha20-Poly1305 with nonces of 12 bytes. The X, which takes 24 and can therefore pick them at
random, is one more step before it: draft-irtf-cfrg-xchacha, section 2. *pure*: nonces are handed in.
"""

from __future__ import annotations

import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from channels.tokens._signing import Malformed, decode64, encode64

__all__ = ["KEY_BYTES", "NONCE_BYTES", "Sealed", "hchacha20", "seal"]

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
_TAG_BYTES = 16
_PREFIX = "XCP."
# What Plug.Crypto authenticates beside the message. The name is that of an older cipher.
_AAD = b"A128GCM"

_WORDS = struct.Struct("<4I")
_CONSTANTS = _WORDS.unpack(b"expand 32-byte k")


def seal(key: bytes, nonce: bytes, message: bytes) -> str:
    """Encrypt a message.

    Args:
        key: 32 bytes.
        nonce: 24 bytes that were never used with this key before.
        message: what only the holder of the key may read.
    """
    sealed = _cipher(key, nonce).encrypt(_short(nonce), message, _AAD)
    # Libraries put the tag behind, this format puts it before.
    return _PREFIX + encode64(nonce + sealed[-_TAG_BYTES:] + sealed[:-_TAG_BYTES])


class Sealed:
    """A received message, taken apart but not read yet."""

    __slots__ = ("_nonce", "_sealed")

    def __init__(self, text: str) -> None:
        """Take it apart.

        Raises:
            Malformed: it is not made like one.
        """
        if not text.startswith(_PREFIX):
            raise Malformed("it does not begin as an encrypted token does")
        data = decode64(text[len(_PREFIX) :])
        if len(data) < NONCE_BYTES + _TAG_BYTES:
            raise Malformed("it is too short")
        tag = data[NONCE_BYTES : NONCE_BYTES + _TAG_BYTES]
        self._nonce = data[:NONCE_BYTES]
        self._sealed = data[NONCE_BYTES + _TAG_BYTES :] + tag

    def open(self, key: bytes) -> bytes | None:
        """The message; None if it was encrypted with another key, or changed since."""
        try:
            return _cipher(key, self._nonce).decrypt(_short(self._nonce), self._sealed, _AAD)
        except InvalidTag:
            return None


def _cipher(key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hchacha20(key, nonce[:16]))


def _short(nonce: bytes) -> bytes:
    return bytes(4) + nonce[16:]


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """Make the key for one message out of a key and the first 16 bytes of a nonce.

    It is the ChaCha20 block function without its last step, which adds the input to the output; so that is taken away
    again, where it is known: from the constants and from the nonce.
    """
    block = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64))
    first = _minus(_WORDS.unpack(block[:16]), _CONSTANTS)
    last = _minus(_WORDS.unpack(block[48:]), _WORDS.unpack(nonce))
    return _WORDS.pack(*first) + _WORDS.pack(*last)


def _minus(words: tuple[int, ...], others: tuple[int, ...]) -> list[int]:
    return [(word - other) % 2**32 for word, other in zip(words, others, strict=True)]
