"""Encrypted messages: XChaCha20-Poly1305 in the layout of MessageEncryptor of Plug.Crypto 2.

*pure*. The caller passes the nonces. `cryptography` provides ChaCha20-Poly1305, whose nonces have 12 bytes. The nonces
of XChaCha20 have 24 bytes, and may be random. XChaCha20 adds one step before ChaCha20, which this module implements:
draft-irtf-cfrg-xchacha, section 2.
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
# The associated data that Plug.Crypto uses. The text is the name of an older cipher.
_AAD = b"A128GCM"

_WORDS = struct.Struct("<4I")
_CONSTANTS = _WORDS.unpack(b"expand 32-byte k")


def seal(key: bytes, nonce: bytes, message: bytes) -> str:
    """Encrypt a message.

    Args:
        key: 32 bytes.
        nonce: 24 bytes. Never use a nonce twice with a key.
        message: the plain text.
    """
    sealed = _cipher(key, nonce).encrypt(_short(nonce), message, _AAD)
    # The library puts the tag after the encrypted text. This format puts it before the text.
    return _PREFIX + encode64(nonce + sealed[-_TAG_BYTES:] + sealed[:-_TAG_BYTES])


class Sealed:
    """A received message, parsed but not decrypted."""

    __slots__ = ("_nonce", "_sealed")

    def __init__(self, text: str) -> None:
        """Parse a received message.

        Raises:
            Malformed: the text does not have the form of an encrypted token.
        """
        if not text.startswith(_PREFIX):
            raise Malformed("it does not begin with XCP.")
        data = decode64(text[len(_PREFIX) :])
        if len(data) < NONCE_BYTES + _TAG_BYTES:
            raise Malformed("it is too short")
        tag = data[NONCE_BYTES : NONCE_BYTES + _TAG_BYTES]
        self._nonce = data[:NONCE_BYTES]
        self._sealed = data[NONCE_BYTES + _TAG_BYTES :] + tag

    def open(self, key: bytes) -> bytes | None:
        """Return the decrypted message; None if it was encrypted with another key, or changed afterwards."""
        try:
            return _cipher(key, self._nonce).decrypt(_short(self._nonce), self._sealed, _AAD)
        except InvalidTag:
            return None


def _cipher(key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hchacha20(key, nonce[:16]))


def _short(nonce: bytes) -> bytes:
    return bytes(4) + nonce[16:]


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """Derive the key for one message from a key and the first 16 bytes of a nonce.

    HChaCha20 is the ChaCha20 block function without its last step, which adds the input. So this calls the block
    function and subtracts the known parts of the input, which are the constants and the nonce.
    """
    block = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64))
    first = _minus(_WORDS.unpack(block[:16]), _CONSTANTS)
    last = _minus(_WORDS.unpack(block[48:]), _WORDS.unpack(nonce))
    return _WORDS.pack(*first) + _WORDS.pack(*last)


def _minus(words: tuple[int, ...], others: tuple[int, ...]) -> list[int]:
    return [(word - other) % 2**32 for word, other in zip(words, others, strict=True)]
