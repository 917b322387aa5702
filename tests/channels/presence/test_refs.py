"""Refs ascend with the time, and nothing else decides their order."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from channels.presence.refs import RefClock

TIMES = st.floats(0, 5e10)
NOISE = st.binary(min_size=5, max_size=5)


@given(st.lists(st.tuples(TIMES, NOISE), max_size=20))
def test_the_refs_of_a_clock_ascend_whatever_the_time_of_day_does(
    draws: list[tuple[float, bytes]],
) -> None:
    clock = RefClock()
    refs = [clock.next(now, noise) for now, noise in draws]
    assert refs == sorted(set(refs))


@given(TIMES, NOISE, st.floats(1e-3, 1e6), NOISE)
def test_the_later_of_two_nodes_has_the_greater_ref(
    now: float, noise: bytes, later: float, other: bytes
) -> None:
    assert RefClock().next(now, noise) < RefClock().next(now + later, other)


@given(TIMES, NOISE)
def test_a_ref_is_sixteen_characters_that_need_no_escape(now: float, noise: bytes) -> None:
    ref = RefClock().next(now, noise)
    assert re.fullmatch(r"[-0-9A-Z_a-z]{16}", ref)
    assert (json.dumps(ref), quote(ref)) == (f'"{ref}"', ref)


def test_nodes_that_track_in_the_same_microsecond_have_different_refs() -> None:
    assert RefClock().next(1.0, b"noise") != RefClock().next(1.0, b"other")
