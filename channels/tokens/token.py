"""Tokens: a value that a client may carry, and cannot change. Compatible with Phoenix.Token, both ways.

    token = sign(SECRET, "user auth", 7)                          # when the page is rendered
    user = verify(SECRET, "user auth", token, max_age=1209600)    # in connect; 7 again

`sign` makes what everybody can read and nobody can change; `encrypt` what nobody can read either. Three things must be
the same on both sides: the secret, which only servers know; the salt, which says what the token is for, and is no
secret; and the options that begin with `key_`.

Data is made of None, bool, int, float, str, bytes, `Atom`, and lists, tuples and dicts of them, and comes back as it
was. One exception: Phoenix knows one type for text and bytes, so bytes that are UTF-8 come back as str.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from channels.errors import InvalidOption, check_whole
from channels.tokens._erlang_terms import Atom, NotATerm, NoTermFor, decode, encode
from channels.tokens._signing import DIGESTS, MAX_TOKEN, Malformed, Signed, derive
from channels.tokens.errors import (
    MIN_SECRET_BYTES,
    EncryptionUnavailable,
    InvalidSecret,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    UnsignableData,
)

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "Atom",
    "EncryptionUnavailable",
    "InvalidSecret",
    "Secret",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "UnsignableData",
    "check_secret",
    "decrypt",
    "encrypt",
    "sign",
    "verify",
]

Secret: TypeAlias = str | bytes | Sequence[str | bytes]
"""A secret, or several: the first makes tokens, all of them are accepted. So an old one can be retired slowly."""


class KeepsSecret(Protocol):
    """An `Endpoint` with a `secret_key_base`."""

    secret_key_base: Secret | None


class AtEndpoint(Protocol):
    """A `Socket` or a `Channel`: its endpoint's secret counts."""

    endpoint: Any


Context: TypeAlias = Secret | KeepsSecret | AtEndpoint
"""Where a secret is to be found: itself, or who has it. Phoenix's context of a token."""

DEFAULT_MAX_AGE: Final = 86_400
# Servers whose clocks differ by less than this believe each other.
_SKEW_MS: Final = 60_000
# Beyond it, floats cannot tell one second from the next.
_MAX_SECONDS: Final = 2**53


def sign(
    secret: Context,
    salt: str | bytes,
    data: Any,
    *,
    signed_at: float | None = None,
    max_age: float = DEFAULT_MAX_AGE,
    key_iterations: int = 1000,
    key_length: int = 32,
    key_digest: str = "sha256",
) -> str:
    """Make a token that holds `data`, for everybody to read and nobody to change.

        token = sign(SECRET, "user auth", 7)

    Args:
        secret: at least 20 bytes that only servers know; of several the first. Or the endpoint that has it, or a
            socket or channel of that.
        salt: what the token is for, such as "user auth". One for another purpose is not accepted in its place. Use a
            fixed few: a key is made for each.
        data: see above. It is not hidden: put an id in it, and look the rest up.
        signed_at: seconds since 1970; now by default.
        max_age: the seconds that it is good for, a day by default; `math.inf` for ever. `verify` may overrule it.
        key_iterations: rounds of PBKDF2 with which the key is made of the secret.
        key_length: bytes of the key.
        key_digest: hash of PBKDF2: sha1, sha224, sha256, sha384 or sha512. The signature is HMAC-SHA256 always.

    Raises:
        InvalidSecret: it is too short.
        InvalidOption: an option that cannot be.
        UnsignableData: data that cannot be in a token, or is longer than 64 KiB.

    After Phoenix.Token.sign: the same arguments give the same token, except that Erlang orders the keys of large maps,
    and atoms among keys, in a way of its own.
    """
    keys = _keys(
        "sign", secret, salt, iterations=key_iterations, length=key_length, digest=key_digest
    )
    return Signed.make(keys[0], _payload("sign", data, signed_at, max_age))


def verify(
    secret: Context,
    salt: str | bytes,
    token: object,
    *,
    max_age: float | None = None,
    now: float | None = None,
    key_iterations: int = 1000,
    key_length: int = 32,
    key_digest: str = "sha256",
) -> Any:
    """Return what is in a token, if it is genuine and not too old. Nothing else: who may do what is still to be asked.

        user = verify([SECRET, OLD_SECRET], "user auth", params.get("token"), max_age=1209600)

    Args:
        secret: the one that it was signed with, or several, one of which it was; or who has it.
        salt: what the token is for, as it was signed.
        token: as it came from the client; whatever came.
        max_age: seconds, instead of those in the token. 0 accepts none, `math.inf` all.
        now: seconds since 1970; what the clock says by default.
        key_iterations: as it was signed.
        key_length: as it was signed.
        key_digest: as it was signed.

    Raises:
        TokenMissing: it is None.
        TokenExpired: it is too old.
        TokenInvalid: it is anything else that was not signed like this.
        InvalidSecret: a secret is too short.
        InvalidOption: an option that cannot be.

    After Phoenix.Token.verify. A token that is signed up to a minute from now is accepted, for clocks differ.
    """
    keys = _keys(
        "verify", secret, salt, iterations=key_iterations, length=key_length, digest=key_digest
    )
    if max_age is not None:
        _check_seconds("verify", "max_age", max_age, or_ever=True)
    text = _text(token)
    try:
        signed = Signed(text)
    except Malformed as error:
        raise TokenInvalid("malformed", str(error)) from None
    if not any(signed.is_by(key) for key in keys):
        raise TokenInvalid("signature", _NOT_BY)
    return _data("verify", signed.payload, max_age, now)


def encrypt(
    secret: Context,
    salt: str | bytes,
    data: Any,
    *,
    signed_at: float | None = None,
    max_age: float = DEFAULT_MAX_AGE,
    key_iterations: int = 1000,
    key_digest: str = "sha256",
) -> str:
    """Make a token that holds `data`, for nobody but `decrypt` to read.

        token = encrypt(SECRET, "invitation", {"room": 7, "by": "ann"})

    Arguments and errors are those of `sign`; the key has 32 bytes always. The length of the data is not hidden.

    Raises:
        EncryptionUnavailable: the extra `encrypt` is not installed.

    After Phoenix.Token.encrypt: XChaCha20-Poly1305.
    """
    sealing = _sealing()
    keys = _keys(
        "encrypt",
        secret,
        salt,
        iterations=key_iterations,
        length=sealing.KEY_BYTES,
        digest=key_digest,
    )
    payload = _payload("encrypt", data, signed_at, max_age)
    token: str = sealing.seal(keys[0], secrets.token_bytes(sealing.NONCE_BYTES), payload)
    return token


def decrypt(
    secret: Context,
    salt: str | bytes,
    token: object,
    *,
    max_age: float | None = None,
    now: float | None = None,
    key_iterations: int = 1000,
    key_digest: str = "sha256",
) -> Any:
    """Return what is in an encrypted token, if it is genuine and not too old.

        invitation = decrypt(SECRET, "invitation", token)

    Arguments and errors are those of `verify`. Tokens of Plug.Crypto before version 2, which begin with `QTEyOEdDTQ`,
    are not valid here.

    Raises:
        EncryptionUnavailable: the extra `encrypt` is not installed.
    """
    sealing = _sealing()
    keys = _keys(
        "decrypt",
        secret,
        salt,
        iterations=key_iterations,
        length=sealing.KEY_BYTES,
        digest=key_digest,
    )
    if max_age is not None:
        _check_seconds("decrypt", "max_age", max_age, or_ever=True)
    text = _text(token)
    try:
        sealed = sealing.Sealed(text)
    except Malformed as error:
        raise TokenInvalid("malformed", str(error)) from None
    for key in keys:
        payload = sealed.open(key)
        if payload is not None:
            return _data("decrypt", payload, max_age, now)
    raise TokenInvalid("signature", _NOT_BY)


_NOT_BY = "it was changed, or made with another secret or for another purpose (salt)"


def _sealing() -> ModuleType:
    try:
        # Late, for it is an extra, and slow to load for all those who only sign.
        from channels.tokens import _encryption as sealing  # noqa: PLC0415
    except ModuleNotFoundError:
        raise EncryptionUnavailable from None
    return sealing


# Keys


def _keys(
    verb: str, secret: Context, salt: str | bytes, *, iterations: int, length: int, digest: str
) -> list[bytes]:
    check_whole(verb, "key_iterations", iterations)
    check_whole(verb, "key_length", length)
    if digest not in DIGESTS:
        raise InvalidOption(verb, "key_digest", digest, f"one of {', '.join(DIGESTS)}")
    if not isinstance(salt, str | bytes):
        raise InvalidOption(verb, "salt", salt, 'what the token is for, such as "user auth"')
    salt_bytes = _bytes(salt)
    return [derive(each, salt_bytes, iterations, length, digest) for each in check_secret(secret)]


def check_secret(secret: Context) -> list[bytes]:
    """Give the bytes of a secret, or of several.

    Raises:
        InvalidSecret: there is none, or it is too short.
    """
    if not isinstance(secret, str | bytes):
        keeper = getattr(secret, "endpoint", secret)
        secret = getattr(keeper, "secret_key_base", keeper)
        if secret is None and keeper is not None:
            raise InvalidSecret(f"{keeper!r} has no secret_key_base")
    given = [secret] if isinstance(secret, str | bytes) else secret
    if not isinstance(given, Sequence) or not given:
        raise InvalidSecret("there is no secret")
    return [_checked(each) for each in given]


def _checked(secret: object) -> bytes:
    if not isinstance(secret, str | bytes):
        raise InvalidSecret(f"the secret is of type {type(secret).__name__}, not text or bytes")
    data = _bytes(secret)
    if len(data) < MIN_SECRET_BYTES:
        raise InvalidSecret(f"the secret has only {len(data)} bytes", length=len(data))
    return data


def _bytes(text: str | bytes) -> bytes:
    # Variables of the environment may hold bytes that are no UTF-8, and these are how Python spells them.
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


# What is inside


def _payload(verb: str, data: Any, signed_at: float | None, max_age: float) -> bytes:
    _check_seconds(verb, "max_age", max_age, or_ever=True)
    seconds = _now(verb, "signed_at", signed_at)
    age = Atom("infinity") if max_age == math.inf else max_age
    try:
        return encode((data, _milliseconds(seconds), age))
    except NoTermFor as error:
        raise UnsignableData(str(error)) from None


def _text(token: object) -> str:
    if token is None:
        raise TokenMissing
    if not isinstance(token, str):
        # Parameters of a client may be lists and objects as well.
        raise TokenInvalid("malformed", "it is not a text")
    if len(token) > MAX_TOKEN:
        raise TokenInvalid("malformed", f"it has more than {MAX_TOKEN} characters")
    return token


def _data(verb: str, payload: bytes, max_age: float | None, now: float | None) -> Any:
    now_ms = _milliseconds(_now(verb, "now", now))
    try:
        data, signed_at, age = _fields(decode(payload))
    except NotATerm as error:
        raise TokenInvalid("payload", str(error)) from None
    if max_age is not None:
        age = max_age
    if age == math.inf:
        return data
    if age <= 0 or signed_at + _milliseconds(age) < now_ms:
        raise TokenExpired(signed_at=signed_at / 1000, max_age=age, now=now_ms / 1000)
    if signed_at > now_ms + _SKEW_MS:
        raise TokenInvalid("future", "it was signed in the future; compare the servers' clocks")
    return data


def _fields(term: Any) -> tuple[Any, int, float]:
    """Data, the millisecond of the signature, and the age allowed; also of the two forms of earlier times."""
    match term:
        case (data, signed_at, age) if type(term) is tuple:
            pass
        case (data, signed_at) if type(term) is tuple:
            age = DEFAULT_MAX_AGE
        case {"data": data, "signed": signed_at}:
            age = DEFAULT_MAX_AGE
        case _:
            raise NotATerm("it holds something else than data and a time")
    if isinstance(age, Atom) and age == "infinity":
        age = math.inf
    # The text of an error shows these as floats, so they have to fit into one.
    if type(signed_at) is not int or abs(signed_at) >= 1000 * _MAX_SECONDS:
        raise NotATerm("the time of its signature is none")
    if type(age) not in {int, float} or (age != math.inf and abs(age) >= _MAX_SECONDS):
        raise NotATerm("the age that it allows is none")
    return data, signed_at, age


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


# Options


def _now(verb: str, option: str, given: float | None) -> float:
    if given is None:
        return time.time()
    _check_seconds(verb, option, given)
    return given


def _check_seconds(verb: str, option: str, value: object, *, or_ever: bool = False) -> None:
    if or_ever and value == math.inf:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Not a number, NaN, is refused by the comparison.
    if not is_number or not -_MAX_SECONDS < value < _MAX_SECONDS:  # type: ignore[operator]
        expected = "a number of seconds, or math.inf" if or_ever else "seconds since 1970"
        raise InvalidOption(verb, option, value, expected)
