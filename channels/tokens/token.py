"""Tokens: values that a client can keep but not change. Phoenix.Token can read and write them too.

    token = sign(SECRET, "user auth", 7)                          # when you render the page
    user = verify(SECRET, "user auth", token, max_age=1209600)    # in connect; 7 again

Anyone can read a token of `sign`. Only the server can read a token of `encrypt`. To read a token, pass the same secret,
salt and `key_` options as for making it. Only servers may know the secret. The salt names the purpose of the token, and
is not secret.

The data of a token consists of None, bool, int, float, str, bytes, `Atom`, and lists, tuples and dicts of these types.
`verify` and `decrypt` return the same data, with one exception. Phoenix has one type for text and bytes, so bytes that
are valid UTF-8 come back as str.

A `TokenError` means that the token of a client is wrong. The other errors mean that the application made a mistake.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import msgspec

from actors.arguments import check_whole, is_number
from actors.declared import declared
from actors.errors import InvalidArgument, InvalidOption
from channels.errors import ChannelsError, MissingLibrary
from channels.tokens._erlang_terms import Atom, NotATerm, NoTermFor, decode, encode
from channels.tokens._signing import DIGESTS, MAX_TOKEN, Malformed, Signed, derive

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "MIN_SECRET_BYTES",
    "Atom",
    "Secret",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "VerifiedToken",
    "check_secret",
    "decrypt",
    "decrypt_with_lifetime",
    "encrypt",
    "sign",
    "verify",
    "verify_with_lifetime",
]

InvalidReason: TypeAlias = Literal["malformed", "signature", "payload", "future"]

MIN_SECRET_BYTES: Final = 20


class TokenError(ChannelsError):
    """The token of a client is missing, invalid or too old.

    The text of the error is for logs. Do not send it to the client.
    """


@declared(
    "the client sent no token; if it sets the authToken of phoenix.js, mount its socket with "
    "Mount(..., auth_token=True)"
)
class TokenMissing(TokenError):
    """The token is None."""


class TokenExpired(TokenError):
    """The token is genuine but too old.

    Attributes:
        signed_at: the time of the signature, in seconds since 1970.
        max_age: the seconds for which the token was valid.
    """

    def __init__(self, *, signed_at: float, max_age: float, now: float) -> None:
        super().__init__(
            f"the token has expired: it is {now - signed_at:.0f} seconds old and was valid for {max_age:g}"
        )
        self.signed_at = signed_at
        self.max_age = max_age


@declared("the token is not valid: {problem}")
class TokenInvalid(TokenError):
    """The token is malformed, changed, or made with another secret or salt.

    Attributes:
        reason: one of

            - `"malformed"`: it does not have the form of a token;
            - `"signature"`: someone changed it, or made it with another secret, salt or `key_` option;
            - `"future"`: it is genuine, but its time is more than a minute ahead, so the clock of a server is wrong;
            - `"payload"`: it is genuine, but contains a forbidden type, such as a function of Erlang.
        problem: the reason as text.
    """

    reason: InvalidReason
    problem: str


Secret: TypeAlias = str | bytes | Sequence[str | bytes]
"""A secret, or a list of secrets. The first secret makes tokens. Tokens of every secret in the list are valid."""


class VerifiedToken(msgspec.Struct, frozen=True):
    """The content of a valid token.

    Attributes:
        data: the data.
        seconds_left: seconds until the token expires; `math.inf` if it never expires.
    """

    data: Any
    seconds_left: float


class KeepsSecret(Protocol):
    """An `Endpoint` with a `secret_key_base`."""

    secret_key_base: Secret | None


class AtEndpoint(Protocol):
    """A `Socket` or a `Channel`, which uses the secret of its endpoint."""

    endpoint: Any


Context: TypeAlias = Secret | KeepsSecret | AtEndpoint
"""A secret, or an object that has one. Phoenix calls it the context of a token."""

DEFAULT_MAX_AGE: Final = 86_400
# Milliseconds by which the clocks of servers may differ.
_SKEW_MS: Final = 60_000
# Up to this number of seconds, floats are exact to the second.
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
    """Make a token with `data`. Anyone can read the data, and nobody can change it.

        token = sign(SECRET, "user auth", 7)

    Source: Phoenix.Token.sign. It makes the same token from the same arguments, except if `data` contains large maps or
    maps with atoms as keys. Erlang has another order for the keys of these maps.

    Args:
        secret: at least 20 bytes that only servers know. You may also pass a list of secrets, an endpoint with a
            `secret_key_base`, or a socket or channel of that endpoint. With a list, `sign` uses the first secret.
        salt: the purpose of the token, such as "user auth". `verify` refuses a token with another salt. Use few
            constant salts, because each salt needs its own key.
        data: the data. The description of the module lists the allowed types. Anyone can read the data, so sign only an
            id and look up the rest.
        signed_at: the time of the signature, in seconds since 1970. The default is now.
        max_age: the seconds for which the token is valid, by default a day. `math.inf` is no limit. `verify` may use
            another value.
        key_iterations: rounds of PBKDF2 for the key.
        key_length: bytes of the key.
        key_digest: the hash of PBKDF2: sha1, sha224, sha256, sha384 or sha512. The signature is always HMAC-SHA256.

    Returns:
        The token: text of letters, digits, `-`, `_` and `.`.

    Raises:
        InvalidArgument: the secret is too short.
        InvalidOption: an option has an invalid value.
        InvalidArgument: a token cannot hold the data, or the data is longer than 64 KiB.
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
    """Return the data of a token if it is genuine and not too old.

        user = verify([SECRET, OLD_SECRET], "user auth", params.get("token"), max_age=1209600)

    The time of a token may be up to a minute ahead, because clocks differ. Source: Phoenix.Token.verify.

    Args:
        secret: the secret that signed the token, a list with it, or an object that has it.
        salt: the same salt as for `sign`.
        token: the value from the client, of any type.
        max_age: the seconds for which a token is valid. None takes the value in the token. 0 accepts no token,
            `math.inf` accepts any age.
        now: the time for the check, in seconds since 1970. The default is the current time.
        key_iterations: the same as for `sign`.
        key_length: the same as for `sign`.
        key_digest: the same as for `sign`.

    Raises:
        TokenMissing: the token is None.
        TokenExpired: the token is too old.
        TokenInvalid: the token is not valid.
        InvalidArgument: a secret is too short.
        InvalidOption: an option has an invalid value.
    """
    return verify_with_lifetime(
        secret,
        salt,
        token,
        max_age=max_age,
        now=now,
        key_iterations=key_iterations,
        key_length=key_length,
        key_digest=key_digest,
    ).data


def verify_with_lifetime(
    secret: Context,
    salt: str | bytes,
    token: object,
    *,
    max_age: float | None = None,
    now: float | None = None,
    key_iterations: int = 1000,
    key_length: int = 32,
    key_digest: str = "sha256",
) -> VerifiedToken:
    """Return the data of a token and the seconds for which it remains valid. Otherwise, do the same as `verify`.

        verified = verify_with_lifetime(SECRET, "user auth", params.get("token"), max_age=3600)
        self.assigns["user"] = verified.data
        self.expire_connection_after(verified.seconds_left)

    Arguments and errors are the same as for `verify`. Phoenix has no function of this kind.
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
    return _content("verify", signed.payload, max_age, now)


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
    """Make a token with encrypted `data`. Only `decrypt` can read the data.

        token = encrypt(SECRET, "invitation", {"room": 7, "by": "ann"})

    Arguments and errors are the same as for `sign`. The key always has 32 bytes. The token reveals the length of the
    data.

    Args:
        secret: as for `sign`.
        salt: as for `sign`.
        data: as for `sign`.
        signed_at: the time of the encryption, in seconds since 1970. The default is now.
        max_age: the seconds for which the token is valid, by default a day.
        key_iterations: rounds of PBKDF2 for the key.
        key_digest: the hash of PBKDF2, as for `sign`.

    Returns:
        The token, as text.

    Raises:
        MissingLibrary: the library cryptography is not installed.

    Source: Phoenix.Token.encrypt, with XChaCha20-Poly1305.
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
    """Return the data of an encrypted token, if it is genuine and not too old.

        invitation = decrypt(SECRET, "invitation", token)

    Arguments and errors are the same as for `verify`. Tokens of Plug.Crypto 1, which begin with `QTEyOEdDTQ`, are not
    valid.

    Args:
        secret: as for `verify`.
        salt: as for `verify`.
        token: the token, as the client sent it.
        max_age: the seconds for which the token is valid. None takes the lifetime in the token.
        now: the present time, in seconds since 1970. The default is the clock.
        key_iterations: rounds of PBKDF2 for the key.
        key_digest: the hash of PBKDF2, as for `sign`.

    Raises:
        MissingLibrary: the library cryptography is not installed.
        TokenInvalid: the token is not genuine.
        TokenExpired: the token is too old.
    """
    return decrypt_with_lifetime(
        secret,
        salt,
        token,
        max_age=max_age,
        now=now,
        key_iterations=key_iterations,
        key_digest=key_digest,
    ).data


def decrypt_with_lifetime(
    secret: Context,
    salt: str | bytes,
    token: object,
    *,
    max_age: float | None = None,
    now: float | None = None,
    key_iterations: int = 1000,
    key_digest: str = "sha256",
) -> VerifiedToken:
    """Return the data of a token and the seconds for which it remains valid. Otherwise, do the same as `decrypt`.

        decrypted = decrypt_with_lifetime(SECRET, "user auth", params.get("token"), max_age=3600)
        self.assigns["account"] = decrypted.data
        self.expire_connection_after(decrypted.seconds_left)

    Arguments and errors are the same as for `decrypt`. Phoenix has no function of this kind.
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
            return _content("decrypt", payload, max_age, now)
    raise TokenInvalid("signature", _NOT_BY)


_NOT_BY = "someone changed it, or made it with another secret or for another purpose (salt)"


def _sealing() -> ModuleType:
    try:
        # Imported here, because this module needs an optional library, which is slow to load.
        from channels.tokens import _encryption as sealing  # noqa: PLC0415
    except ModuleNotFoundError:
        raise MissingLibrary("encrypted tokens", "cryptography") from None
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
        raise InvalidOption(verb, "salt", salt, 'the purpose of the token, such as "user auth"')
    salt_bytes = _bytes(salt)
    return [derive(each, salt_bytes, iterations, length, digest) for each in check_secret(secret)]


def check_secret(secret: Context) -> list[bytes]:
    """Return the bytes of each secret in `secret`.

    Raises:
        InvalidArgument: there is no secret, or a secret is too short.
    """
    if not isinstance(secret, str | bytes):
        keeper = getattr(secret, "endpoint", secret)
        secret = getattr(keeper, "secret_key_base", keeper)
        if secret is None and keeper is not None:
            raise _invalid_secret(f"{keeper!r} has no secret_key_base")
    given = [secret] if isinstance(secret, str | bytes) else secret
    if not isinstance(given, Sequence) or not given:
        raise _invalid_secret("no secret was given")
    return [_checked(each) for each in given]


def _invalid_secret(problem: str) -> InvalidArgument:
    # Without the secret itself.
    return InvalidArgument(
        None,
        None,
        f"{problem}; use {MIN_SECRET_BYTES} bytes or more, such as `python -c "
        '"import secrets; print(secrets.token_urlsafe(48))"` prints, and keep them out of the code',
    )


def _checked(secret: object) -> bytes:
    if not isinstance(secret, str | bytes):
        raise _invalid_secret(f"the secret is of type {type(secret).__name__}, not str or bytes")
    data = _bytes(secret)
    if len(data) < MIN_SECRET_BYTES:
        raise _invalid_secret(f"the secret has only {len(data)} bytes")
    return data


def _bytes(text: str | bytes) -> bytes:
    # An environment variable may contain bytes that are not UTF-8, which Python represents as surrogates.
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


# The content of tokens


def _payload(verb: str, data: Any, signed_at: float | None, max_age: float) -> bytes:
    _check_seconds(verb, "max_age", max_age, or_ever=True)
    seconds = _now(verb, "signed_at", signed_at)
    age = Atom("infinity") if max_age == math.inf else max_age
    try:
        return encode((data, _milliseconds(seconds), age))
    except NoTermFor as error:
        # Without the data, which may be secret.
        problem = f"a token cannot hold this data: {error}"
        raise InvalidArgument(None, type(data), problem) from None


def _text(token: object) -> str:
    if token is None:
        raise TokenMissing
    if not isinstance(token, str):
        # Clients can also send lists and objects.
        raise TokenInvalid("malformed", "it is not a string")
    if len(token) > MAX_TOKEN:
        raise TokenInvalid("malformed", f"it has more than {MAX_TOKEN} characters")
    return token


def _content(verb: str, payload: bytes, max_age: float | None, now: float | None) -> VerifiedToken:
    now_ms = _milliseconds(_now(verb, "now", now))
    try:
        data, signed_at, age = _fields(decode(payload))
    except NotATerm as error:
        raise TokenInvalid("payload", str(error)) from None
    if max_age is not None:
        age = max_age
    if age == math.inf:
        return VerifiedToken(data, math.inf)
    end = signed_at + _milliseconds(age)
    if age <= 0 or end < now_ms:
        raise TokenExpired(signed_at=signed_at / 1000, max_age=age, now=now_ms / 1000)
    if signed_at > now_ms + _SKEW_MS:
        raise TokenInvalid(
            "future", "it was signed in the future; compare the clocks of the servers"
        )
    return VerifiedToken(data, (end - now_ms) / 1000)


def _fields(term: Any) -> tuple[Any, int, float]:
    """Return the data, the time in milliseconds, and the maximum age, from a term in any of three formats."""
    match term:
        case (data, signed_at, age) if type(term) is tuple:
            pass
        case (data, signed_at) if type(term) is tuple:
            age = DEFAULT_MAX_AGE
        case {"data": data, "signed": signed_at}:
            age = DEFAULT_MAX_AGE
        case _:
            raise NotATerm("it does not contain data and a time")
    if isinstance(age, Atom) and age == "infinity":
        age = math.inf
    # Limited, because error texts show these numbers as floats.
    if type(signed_at) is not int or abs(signed_at) >= 1000 * _MAX_SECONDS:
        raise NotATerm("the time of its signature is not valid")
    if type(age) not in {int, float} or (age != math.inf and abs(age) >= _MAX_SECONDS):
        raise NotATerm("its maximum age is not valid")
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
    if not is_number(value) or not -_MAX_SECONDS < value < _MAX_SECONDS:
        expected = "a number of seconds, or math.inf" if or_ever else "seconds since 1970"
        raise InvalidOption(verb, option, value, expected)
