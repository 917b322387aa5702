"""Tokens: the vectors of a real Phoenix both ways, and the refusal of everything unsigned."""

from __future__ import annotations

import hmac
import math
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import channels
from actors import InvalidArgument, InvalidOption
from channels import (
    Atom,
    Channel,
    ChannelsError,
    Endpoint,
    MissingLibrary,
    Socket,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    decrypt,
    decrypt_with_lifetime,
    encrypt,
    sign,
    verify,
    verify_with_lifetime,
)
from channels.tokens import _encryption as sealing
from channels.tokens import _erlang_terms as terms
from channels.tokens import _signing as signing

SECRET = "kjoy3o1zeidquwy1398juxzldjlksahdk3kjoy3o1zeidquwy1398juxzldjlksa"
OTHER = "another secret that is long enough"
SALT = "user auth"
THEN = 1_700_000_000
KEY = bytes.fromhex("4195eeace5d7e1b5c7bfda6b906920bf18b6c57d49dd828ae22d44196c19cca0")
SEALED = "XCP.lCD5PeEiuJxw4MfPlmY_mR5-dpkfbm13ZQn6FYA8MEHFk_H7jusJFqXb476Vp9zHvJknMmMQdVfD7TwfYzkRlsqvWgccEB8"

# Made by a real Phoenix: data, options of signing, token.
VECTORS: list[tuple[Any, dict[str, Any], str]] = [
    (99, {}, "g2gDYWNuBgAAaOXPiwFiAAFRgA.cpxS0gIRNuqbesIpknrPqQcTB0Jn3ei09jHVw7tR5J8"),
    ("abc", {}, "g2gDbQAAAANhYmNuBgAAaOXPiwFiAAFRgA.6ygHHW10sI7J1e853QZbJZevne4N8yLxp7HeQMgE3Kc"),
    (
        {"id": 7, "name": "Zoë"},
        {},
        (
            "g2gDdAAAAAJtAAAAAmlkYQdtAAAABG5hbWVtAAAABFpvw6tuBgAAaOXPiwFiAAFRgA"
            ".0pbkCu5hxKBKAmEqCLvX0BOR6FqdWTYXEToFY-F4Jx8"
        ),
    ),
    (
        {Atom("id"): 7},
        {},
        "g2gDdAAAAAF3AmlkYQduBgAAaOXPiwFiAAFRgA.tawZoSkdDTYCfZ9-oJ2SCJ9Z_f8U8gjwSC3ufZArmN0",
    ),
    (
        [1, 2, 300, -1, 1.5, None, True, Atom("ok")],
        {},
        (
            "g2gDbAAAAAhhAWECYgAAASxi_____0Y_-AAAAAAAAHcDbmlsdwR0cnVldwJva2puBgAAaOXPiwFiAAFRgA"
            ".qUH2LmCCnFiXKdMvrXJBoa_sRv2dYwxulldLnzCbL4k"
        ),
    ),
    (
        (Atom("a"), "b"),
        {"signed_at": 0, "max_age": math.inf},
        "g2gDaAJ3AWFtAAAAAWJhAHcIaW5maW5pdHk.svQuV0JzaCzk6qLdEd4ULEE9GTpywLmbrZQrCh-dprQ",
    ),
    (
        1,
        {"max_age": 1_209_600},
        "g2gDYQFuBgAAaOXPiwFiABJ1AA.6JSdh2vsD_d2NDQZgAEiCUmse5NOC23H7TzmS0v96pg",
    ),
    (
        1,
        {"key_digest": "sha512", "key_length": 64, "key_iterations": 5},
        "g2gDYQFuBgAAaOXPiwFiAAFRgA.efib0Hk9FHahEW5cd9xL1QdFsf_pOfWrGIIRGh8xxRs",
    ),
    (
        5_000_000_000,
        {"signed_at": THEN + 0.5},
        "g2gDbgUAAPIFKgFuBgD0aeXPiwFiAAFRgA.luJSUQnbW3OkC-a83t2CAsDoCxQ1jh2gpTuHSKKOWn0",
    ),
    (
        [97, 98, 99],
        {"signed_at": 0},
        "g2gDawADYWJjYQBiAAFRgA.eNi7u7PH0likASYZ1S24sf6QCDSJVzzh4N26rFrUVNQ",
    ),
    (
        1,
        {"signed_at": 0, "salt": ""},
        "g2gDYQFhAGIAAVGA.CpJ6W5EjCnosAFd0KW46gbZgM7b6zlQ6lE-X3DyWB3o",
    ),
]


@pytest.fixture(params=["signed", "encrypted"], name="kind")
def make_and_read(request: pytest.FixtureRequest) -> tuple[Callable[..., str], Callable[..., Any]]:
    """Both kinds of tokens, for tests of common properties."""
    return (sign, verify) if request.param == "signed" else (encrypt, decrypt)


Kind = tuple[Callable[..., str], Callable[..., Any]]


def swap(text: str, place: int) -> str:
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def resigned(payload: bytes, digest: str = "sha256", header: str = "HS256") -> str:
    """A token with any payload, made with the right key."""
    text = f"{signing.encode64(header.encode())}.{signing.encode64(payload)}"
    return f"{text}.{signing.encode64(hmac.digest(KEY, text.encode(), digest))}"


# Phoenix


@pytest.mark.parametrize(("data", "options", "rest"), VECTORS)
def test_a_token_of_phoenix_is_reproduced_exactly_and_read(
    data: Any, options: dict[str, Any], rest: str
) -> None:
    token = f"SFMyNTY.{rest}"
    options = {"salt": SALT, "signed_at": THEN, **options}
    assert sign(SECRET, data=data, **options) == token
    signed_at = options.pop("signed_at")
    options.pop("max_age", None)
    read = verify(SECRET, token=token, now=signed_at + 1, **options)
    assert read == data
    assert type(read) is type(data)


def test_a_token_of_plug_crypto_is_reproduced_exactly() -> None:
    # Plug.Crypto has no minimum length of a secret. Only the public interface here has one.
    key = signing.derive(b"abc123", b"id", 1000, 32, "sha256")
    expected = "SFMyNTY.g2gDYQFhAGIAAVGA.KXdBHt_mqSOGliRNUFeDbTg4AIlwgDAyz6NZFjYMFDQ"
    assert signing.Signed.make(key, terms.encode((1, 0, 86_400))) == expected
    assert signing.Signed(expected).is_by(key)


def test_the_derived_key_is_that_of_phoenix() -> None:
    assert signing.derive(SECRET.encode(), SALT.encode(), 1000, 32, "sha256") == KEY


def test_an_encrypted_token_of_phoenix_is_read_and_reproduced_exactly() -> None:
    assert decrypt(SECRET, SALT, SEALED, now=THEN) == {"id": 7}
    nonce = signing.decode64(SEALED[4:])[: sealing.NONCE_BYTES]
    payload = terms.encode(({"id": 7}, THEN * 1000, 86_400))
    assert sealing.seal(KEY, nonce, payload) == SEALED


def test_hchacha20_gives_the_key_of_the_draft() -> None:
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    assert sealing.hchacha20(bytes(range(32)), nonce).hex() == (
        "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    )


@pytest.mark.parametrize(("header", "digest"), [("HS384", "sha384"), ("HS512", "sha512")])
def test_signatures_of_longer_hashes_are_accepted(header: str, digest: str) -> None:
    payload = terms.encode((1, THEN * 1000, 86_400))
    assert verify(SECRET, SALT, resigned(payload, digest, header), now=THEN) == 1
    with pytest.raises(TokenInvalid):
        verify(SECRET, SALT, resigned(payload, "sha256", header), now=THEN)


@pytest.mark.parametrize(
    "payload",
    [(7, THEN * 1000), {Atom("data"): 7, Atom("signed"): THEN * 1000}],
)
def test_payloads_of_earlier_versions_are_valid_for_a_day(payload: Any) -> None:
    token = resigned(terms.encode(payload))
    assert verify(SECRET, SALT, token, now=THEN + 86_400) == 7
    with pytest.raises(TokenExpired):
        verify(SECRET, SALT, token, now=THEN + 86_401)


def test_a_signature_may_be_padded() -> None:
    token = sign(SECRET, SALT, 7)
    assert verify(SECRET, SALT, token + "=") == 7
    with pytest.raises(TokenInvalid):
        verify(SECRET, SALT, token + "==")
    for extra in (4, 5, 8, 400, 401):
        with pytest.raises(TokenInvalid):
            verify(SECRET, SALT, token + "=" * extra)


# What is refused


def test_a_missing_token_and_a_wrong_one_are_different_errors(kind: Kind) -> None:
    with pytest.raises(TokenMissing):
        kind[1](SECRET, SALT, None)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "..",
        "SFMyNTY.",
        "SFMyNTY..",
        "SFMyNTY.a.b",
        "a.b.c.d",
        "ü.ü.ü",
        "\ud800",
        "XCP.",
        "XCP.AAAA",
        "A" * 100001,
        7,
        b"bytes",
        ["list"],
        {"a": "dict"},
        True,
    ],
)
def test_arbitrary_text_is_malformed_or_has_a_wrong_signature(kind: Kind, token: object) -> None:
    with pytest.raises(TokenInvalid) as refused:
        kind[1](SECRET, SALT, token)
    assert refused.value.reason == (
        "signature" if token == "SFMyNTY.." and kind[1] is verify else "malformed"
    )


def test_a_token_changed_anywhere_is_refused(kind: Kind) -> None:
    make, read = kind
    token = make(SECRET, SALT, {"id": 7})
    for place in range(len(token)):
        with pytest.raises(TokenInvalid):
            read(SECRET, SALT, swap(token, place))
    for changed in (token[:-1], token + "A", token + "\n", " " + token):
        with pytest.raises(TokenInvalid):
            read(SECRET, SALT, changed)


def test_a_token_with_other_spare_bits_is_refused() -> None:
    token = sign(SECRET, SALT, 99, signed_at=THEN)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twins = [token[:-1] + character for character in alphabet if character != token[-1]]
    for twin in twins:
        with pytest.raises(TokenInvalid):
            verify(SECRET, SALT, twin, now=THEN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"salt": "other"},
        {"secret": OTHER},
        {"key_iterations": 1001},
        {"key_digest": "sha512"},
    ],
)
def test_a_token_of_another_salt_secret_or_key_has_a_wrong_signature(
    kind: Kind, wrong: dict[str, Any]
) -> None:
    make, read = kind
    right = {"secret": SECRET, "salt": SALT}
    token = make(**right, data=7)
    with pytest.raises(TokenInvalid) as refused:
        read(**{**right, **wrong}, token=token)
    assert refused.value.reason == "signature"
    assert "salt" in str(refused.value)


def test_a_signed_token_of_another_key_length_is_refused() -> None:
    with pytest.raises(TokenInvalid):
        verify(SECRET, SALT, sign(SECRET, SALT, 7, key_length=64))


def test_a_genuine_token_with_a_forbidden_payload_is_refused() -> None:
    payloads = [
        b"",
        b"\x83",
        b"\x83\x70\0\0\0\0",  # a function
        *map(terms.encode, [7, (7,), (1, 2, 3, 4), [7, 0, 0], {"data": 7}, (7, "x"), (7, 0.0, 1)]),
        *map(terms.encode, [(7, 0, "1"), (7, 0, None), (7, 0, True), (7, 0, "infinity")]),
        *map(terms.encode, [(7, 0, 2**900), (7, 2**900, 1), (7, -(2**900), 1), (7, 0, 1e300)]),
    ]
    for payload in payloads:
        with pytest.raises(TokenInvalid) as refused:
            verify(SECRET, SALT, resigned(payload), now=THEN)
        assert refused.value.reason == "payload"


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []
    real = hmac.compare_digest

    def compare(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return real(a, b)

    token = sign(SECRET, SALT, 7)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    verify(SECRET, SALT, token)
    with pytest.raises(TokenInvalid):
        verify([SECRET, OTHER], "x", token)
    assert len(compared) == 3


# Age


@pytest.mark.parametrize(("age", "fine"), [(86_400, True), (86_400.001, False)])
def test_a_token_is_valid_for_a_day_by_default(kind: Kind, age: float, fine: bool) -> None:
    make, read = kind
    token = make(SECRET, SALT, 7, signed_at=THEN)
    if fine:
        assert read(SECRET, SALT, token, now=THEN + age) == 7
    else:
        with pytest.raises(TokenExpired):
            read(SECRET, SALT, token, now=THEN + age)


def test_the_reader_can_override_the_maximum_age_of_a_token(kind: Kind) -> None:
    make, read = kind
    token = make(SECRET, SALT, 7, signed_at=THEN, max_age=0.5)
    assert read(SECRET, SALT, token, now=THEN + 0.5) == 7
    with pytest.raises(TokenExpired):
        read(SECRET, SALT, token, now=THEN + 0.501)
    assert read(SECRET, SALT, token, now=THEN + 10, max_age=10) == 7
    with pytest.raises(TokenExpired):
        read(SECRET, SALT, token, now=THEN + 0.25, max_age=0.1)


@pytest.mark.parametrize(
    ("options", "now", "left"),
    [
        ({}, THEN + 10, 50.0),
        ({}, THEN + 60, 0.0),
        ({}, THEN - 30, 90.0),
        ({"max_age": 15.5}, THEN + 10, 5.5),
        ({"max_age": math.inf}, THEN + 10, math.inf),
    ],
)
def test_the_lifetime_of_a_token_is_the_time_until_the_server_refuses_it(
    kind: Kind, options: dict[str, Any], now: float, left: float
) -> None:
    make, read = kind
    read_with_lifetime = verify_with_lifetime if read is verify else decrypt_with_lifetime
    token = make(SECRET, SALT, 7, signed_at=THEN, max_age=60)
    verified = read_with_lifetime(SECRET, SALT, token, now=now, **options)
    assert (verified.data, verified.seconds_left) == (7, left)
    if left < math.inf:
        with pytest.raises(TokenExpired):
            read(SECRET, SALT, token, now=now + left + 0.001, **options)


@pytest.mark.parametrize("max_age", [0, -1])
def test_a_maximum_age_of_0_accepts_no_token(kind: Kind, max_age: int) -> None:
    make, read = kind
    token = make(SECRET, SALT, 7, signed_at=THEN)
    with pytest.raises(TokenExpired):
        read(SECRET, SALT, token, now=THEN, max_age=max_age)
    with pytest.raises(TokenExpired):
        read(SECRET, SALT, make(SECRET, SALT, 7, signed_at=THEN, max_age=max_age), now=THEN)


def test_a_token_without_a_maximum_age_never_expires(kind: Kind) -> None:
    make, read = kind
    ever = make(SECRET, SALT, 7, signed_at=0, max_age=math.inf)
    assert read(SECRET, SALT, ever, now=2**40) == 7
    assert read(SECRET, SALT, make(SECRET, SALT, 7, signed_at=0), max_age=math.inf) == 7
    with pytest.raises(TokenExpired):
        read(SECRET, SALT, ever, now=THEN, max_age=1)


def test_a_token_signed_in_the_future_is_refused_beyond_a_minute(kind: Kind) -> None:
    make, read = kind
    token = make(SECRET, SALT, 7, signed_at=THEN)
    assert read(SECRET, SALT, token, now=THEN - 60) == 7
    with pytest.raises(TokenInvalid) as refused:
        read(SECRET, SALT, token, now=THEN - 60.001)
    assert refused.value.reason == "future"
    assert read(SECRET, SALT, token, now=THEN - 3600, max_age=math.inf) == 7


def test_an_expired_token_error_has_the_time_of_signing_and_the_maximum_age() -> None:
    token = sign(SECRET, SALT, 7, signed_at=THEN, max_age=60)
    with pytest.raises(TokenExpired) as refused:
        verify(SECRET, SALT, token, now=THEN + 90)
    assert (refused.value.signed_at, refused.value.max_age) == (THEN, 60)
    assert str(refused.value) == "the token has expired: it is 90 seconds old and was valid for 60"


def test_the_default_time_is_the_current_time(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    make, read = kind
    monkeypatch.setattr(time, "time", lambda: float(THEN))
    token = make(SECRET, SALT, 7)
    assert read(SECRET, SALT, token, max_age=1) == 7
    monkeypatch.setattr(time, "time", lambda: THEN + 1.5)
    with pytest.raises(TokenExpired):
        read(SECRET, SALT, token, max_age=1)


# Secrets


def test_the_first_of_several_secrets_signs_and_all_verify(kind: Kind) -> None:
    make, read = kind
    old, new = make(SECRET, SALT, 1), make([OTHER, SECRET], SALT, 2)
    assert read([OTHER, SECRET], SALT, old) == 1
    assert read(OTHER, SALT, new) == 2
    with pytest.raises(TokenInvalid):
        read(SECRET, SALT, new)
    with pytest.raises(TokenInvalid):
        read([OTHER], SALT, old)


def test_a_secret_is_the_same_as_text_and_as_bytes(kind: Kind) -> None:
    make, read = kind
    assert read(SECRET.encode(), SALT.encode(), make(SECRET, SALT, 7)) == 7


def test_a_secret_from_the_environment_may_contain_bytes_that_are_not_utf8() -> None:
    raw = b"\xff" * 20
    assert verify(raw, SALT, sign(raw.decode("utf-8", "surrogateescape"), SALT, 7)) == 7


@pytest.mark.parametrize("secret", ["x" * 19, b"", [SECRET, "hush hush hush"], [], None, 7, [None]])
def test_an_invalid_secret_is_refused_with_advice_and_not_shown(kind: Kind, secret: Any) -> None:
    make, read = kind
    for use in (lambda: make(secret, SALT, 7), lambda: read(secret, SALT, "x")):
        with pytest.raises(InvalidArgument) as refused:
            use()
        assert "secrets.token_urlsafe" in str(refused.value)
        assert "hush" not in f"{refused.value!r} {vars(refused.value)}"
    assert not issubclass(InvalidArgument, TokenError)


def test_a_secret_of_20_bytes_is_long_enough_counted_in_bytes() -> None:
    assert verify("ä" * 10, SALT, sign("ä" * 10, SALT, 7)) == 7
    with pytest.raises(InvalidArgument, match="has only 19 bytes"):
        sign("x" * 19, SALT, 7)


@pytest.mark.parametrize(
    "bad", [swap(sign(SECRET, SALT, 7), 9), "x", None, sign(SECRET, SALT, 7, max_age=-1)]
)
def test_no_refusal_shows_the_secret_or_the_token(bad: str | None) -> None:
    with pytest.raises(TokenError) as refused:
        verify(SECRET, SALT, bad)
    shown = f"{refused.value} {refused.value!r} {vars(refused.value)}"
    assert SECRET not in shown
    assert bad is None or len(bad) < 2 or bad not in shown


def test_keys_are_cached_and_the_cache_is_bounded() -> None:
    size = signing.derive.cache_info().maxsize
    assert size is not None
    sign(SECRET, SALT, 7)
    hits = signing.derive.cache_info().hits
    sign(SECRET, SALT, 8)
    assert signing.derive.cache_info().hits == hits + 1
    for number in range(size + 10):
        sign(SECRET, f"salt {number}", 7, key_iterations=1)
    assert signing.derive.cache_info().currsize == size


# Mistakes


@pytest.mark.parametrize(
    "options",
    [
        {"max_age": math.nan},
        {"max_age": "1"},
        {"max_age": True},
        {"max_age": -math.inf},
        {"max_age": 1e300},
        {"key_iterations": 0},
        {"key_iterations": 1.5},
        {"key_digest": "md5"},
        {"salt": None},
    ],
)
def test_an_invalid_option_raises_with_its_name(kind: Kind, options: dict[str, Any]) -> None:
    make, read = kind
    (name,) = options
    for use, what in ((make, {"data": 7}), (read, {"token": "x"})):
        with pytest.raises(InvalidOption) as refused:
            use(**{"secret": SECRET, "salt": SALT, **what, **options})
        assert refused.value.option == name


@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf, "now", False, 2**53])
def test_an_invalid_time_raises_with_its_name(kind: Kind, moment: Any) -> None:
    make, read = kind
    with pytest.raises(InvalidOption, match="signed_at"):
        make(SECRET, SALT, 7, signed_at=moment)
    with pytest.raises(InvalidOption, match="now"):
        read(SECRET, SALT, make(SECRET, SALT, 7), now=moment)


def test_sign_requires_a_valid_maximum_age() -> None:
    with pytest.raises(InvalidOption) as refused:
        sign(SECRET, SALT, 7, max_age=None)  # type: ignore[arg-type]
    assert refused.value.option == "max_age"


@pytest.mark.parametrize(
    "data", [{1, 2}, object(), 1j, math.nan, "\ud800", [lambda: 0], "x" * 70_000]
)
def test_data_that_a_token_cannot_hold_is_refused_with_advice(kind: Kind, data: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        kind[0](SECRET, SALT, data)
    assert refused.value.problem
    assert not isinstance(refused.value, TokenError)


def test_the_longest_data_that_can_be_signed_can_be_verified(kind: Kind) -> None:
    make, read = kind
    data = "x" * (terms.MAX_BYTES - 40)
    assert read(SECRET, SALT, make(SECRET, SALT, data)) == data


def test_encryption_without_its_library_raises_with_the_install_command(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "channels.tokens._encryption", None)
    monkeypatch.delattr(channels.tokens, "_encryption", raising=False)
    for verb in (encrypt, decrypt):
        with pytest.raises(MissingLibrary, match=r"pip install cryptography"):
            verb(SECRET, SALT, "x")
    assert verify(SECRET, SALT, sign(SECRET, SALT, 7)) == 7


def test_two_encryptions_of_the_same_data_differ() -> None:
    tokens = {encrypt(SECRET, SALT, "plain", signed_at=THEN) for _ in range(3)}
    assert len(tokens) == 3
    for token in tokens:
        assert b"plain" not in signing.decode64(token[4:])


def test_an_atom_survives_pickling() -> None:
    copied = pickle.loads(pickle.dumps(Atom("ok")))
    assert (copied, type(copied)) == ("ok", Atom)


def test_all_errors_but_those_of_arguments_are_those_of_channels() -> None:
    for error in (TokenError, MissingLibrary):
        assert issubclass(error, ChannelsError)


@pytest.mark.parametrize(("make", "read"), [(sign, verify), (encrypt, decrypt)])
def test_the_secret_may_be_that_of_an_endpoint_a_socket_or_a_channel(make: Any, read: Any) -> None:
    endpoint = Endpoint(sockets={}, secret_key_base=SECRET)
    socket, channel = Socket(), Channel()
    socket.endpoint = channel.endpoint = endpoint
    token = make(SECRET, "salt", 7)
    for context in (endpoint, socket, channel):
        assert read(context, "salt", token) == 7
        assert read(SECRET, "salt", make(context, "salt", 7)) == 7


def test_an_endpoint_without_a_secret_says_so() -> None:
    with pytest.raises(InvalidArgument, match="<endpoint without sockets> has no secret_key_base"):
        sign(Endpoint(sockets={}), "salt", 7)
