"""Tokens of all kinds, checked at many times. The documented rules decide if a token is valid.

ashtree simulate tests.simulation.sweeps.channels.tokens:tokens --seeds 1-1000
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

import trio
from attrs import frozen

from channels.tokens.token import (
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    decrypt,
    encrypt,
    sign,
    verify,
)
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds

SECRETS = ("a" * 20, "b" * 64, "ü" * 32)
SALTS = ("user auth", "other", "")
SKEW = 60.0


@frozen
class Made:
    """A token, and the data and options from which the sweep made it."""

    token: str
    is_secret: bool
    secret: str
    salt: str
    data: Any
    signed_at: float
    max_age: float


def some_data(random: Random) -> Any:
    """Return random data that a token can hold."""
    return random.choice(
        (
            7,
            -1,
            300,
            2**40,
            -(2**70),
            1.5,
            None,
            True,
            "user:7",
            "grüße" * 60,
            b"\x00\xff",
            [],
            [1, 2, 300],
            list(range(5)),
            {"id": 7, "name": "Zoë"},
            {"deep": [{"a": None}, [True, False]]},
            (1, "x"),
            "x" * 70_000 if random.random() < 0.01 else "",
        )
    )


def make(world: World, random: Random) -> Made:
    """Make a token."""
    is_secret = random.random() < 0.4
    secret, salt = random.choice(SECRETS), random.choice(SALTS)
    data = some_data(random)
    if isinstance(data, str) and len(data) > 60_000:
        data = ""
    max_age = random.choice((1.0, 30.0, 86_400.0, math.inf))
    now = world.runtime.now()
    signed_at = random.choice((None, None, now - 10, now + 30, now + 300, float(int(now))))
    maker = encrypt if is_secret else sign
    token = maker(secret, salt, data, signed_at=signed_at, max_age=max_age)
    at = now if signed_at is None else signed_at
    return Made(token, is_secret, secret, salt, data, at, max_age)


def outcome(made: Made, secrets: Any, salt: str, max_age: float | None, now: float) -> str:
    """Return the result that the rules require: "ok", or the name of the error."""
    known = secrets if isinstance(secrets, list) else [secrets]
    if made.secret not in known or made.salt != salt:
        return "TokenInvalid"
    age = made.max_age if max_age is None else max_age
    if age == math.inf:
        return "ok"
    if age <= 0 or int(made.signed_at * 1000) + int(age * 1000) < int(now * 1000):
        return "TokenExpired"
    if int(made.signed_at * 1000) > int(now * 1000) + SKEW * 1000:
        return "TokenInvalid"
    return "ok"


def changed(random: Random, token: str) -> str:
    """Return a token with a small random change."""
    place = random.randrange(len(token) - 2)
    letter = "A" if token[place] != "A" else "B"
    return random.choice(
        (
            token[:place] + letter + token[place + 1 :],
            token[:-3],
            token + ".",
            token.replace(".", "", 1),
            token[: len(token) // 2],
        )
    )


@scenario(params={"tokens": 12})
@small_bounds
async def tokens(world: World) -> None:
    """Make tokens, let time pass, and check each token in several ways."""
    random = world.random("tokens")
    for _ in range(world.params["tokens"]):
        made = make(world, random)
        for _ in range(3):
            use(world, random, made)
            await trio.sleep(random.choice((0.0, 0.5, 1.0, 29.0, 31.0)))
    for check in (verify, decrypt):
        for wrong in (None, "", 7, "SFMyNTY.a.b", "XCP.aaaa"):
            try:
                check(SECRETS[0], "user auth", wrong)
            except (TokenMissing, TokenInvalid) as error:
                is_right = isinstance(error, TokenMissing) == (wrong is None)
                world.check(is_right, f"{check.__name__} of {wrong!r} raised {error!r}")
            else:
                world.check(False, f"{check.__name__} of {wrong!r} raised nothing")


def use(world: World, random: Random, made: Made) -> None:
    """Check a token in some way, and compare the outcome with the rules."""
    check: Any = decrypt if made.is_secret else verify
    secrets: Any = random.choice(
        (
            made.secret,
            [made.secret],
            list(SECRETS),
            random.choice(SECRETS),
            [SECRETS[1], made.secret],
        )
    )
    salt = random.choice((made.salt, made.salt, random.choice(SALTS)))
    max_age = random.choice((None, None, 0, 30.0, 86_400, math.inf))
    # Often check the token exactly when it expires.
    edge = made.signed_at + (made.max_age if made.max_age < math.inf else 30.0)
    now = random.choice((None, None, edge, edge + 0.002, edge - 0.002, made.signed_at - SKEW - 1))
    token, wanted = (
        made.token,
        outcome(made, secrets, salt, max_age, world.runtime.now() if now is None else now),
    )
    if random.random() < 0.2:
        token, wanted = changed(random, token), "TokenInvalid"
    if now is not None and abs(now - round(now, 3)) > 1e-6:
        now = round(now, 3)
    try:
        data = check(secrets, salt, token, max_age=max_age, now=now)
    except (TokenExpired, TokenInvalid) as error:
        found = type(error).__name__
    else:
        found = "ok"
        world.check(
            data == made.data and type(data) is type(made.data),
            f"{check.__name__} gave {data!r}, and {made.data!r} was signed",
        )
    world.check(
        found == wanted,
        f"{check.__name__} of a token of {made.signed_at}, valid for {made.max_age:g}, at {now} with the age "
        f"{max_age}, salt {salt!r}: {found}, not {wanted}",
    )
