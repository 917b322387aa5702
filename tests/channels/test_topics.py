"""Routing tables: first match in the order of declaration, splats at the end only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import InvalidArgument
from channels.durable.history import History
from channels.observer.access import Access
from channels.presence.tracker import gossip_topic
from channels.protocol.longpoll import relay_topic
from channels.topics import Route, Router

_TEXT = st.text(alphabet="ab:", max_size=4)
_PATTERNS = st.builds(lambda text, splat: text + splat, _TEXT, st.sampled_from(["", "*"]))


def test_an_exact_pattern_matches_its_topic_and_nothing_else() -> None:
    route = Route("room:lobby", "Lobby")
    router = Router([route])
    assert router.match("room:lobby") is route
    assert router.match("room:lobby2") is None
    assert router.match("room:lobb") is None
    assert router.match("") is None


def test_a_splat_matches_any_rest_including_none() -> None:
    route = Route("room:*", "Room")
    router = Router([route])
    assert router.match("room:") is route
    assert router.match("room:a:b*c") is route
    assert router.match("room") is None


def test_a_lone_splat_matches_every_topic() -> None:
    router = Router([Route("*", "Any")])
    assert router.match("") is not None
    assert router.match("phoenix") is not None


_TOPICS_OF_NODES = tuple(
    pytest.param(topic, id=kind)
    for kind, topic in (
        ("longpoll", relay_topic("web-1")),
        ("presence", gossip_topic("Presence")),
        ("history", History(name="chat").lane("room:lobby")),
        ("observer", Access(None, None).topic()),
    )
)


@pytest.mark.parametrize("topic", _TOPICS_OF_NODES)
@pytest.mark.parametrize("pattern", ["*", "ash*", "a*"])
def test_no_pattern_matches_the_topics_of_nodes(pattern: str, topic: str) -> None:
    router = Router([Route(pattern, "Any")])
    assert router.match(topic) is None
    assert not router.routes[0].matches(topic)


@pytest.mark.parametrize("pattern", ["ashtree:*", "ashtree:mine", *_TOPICS_OF_NODES])
def test_a_route_cannot_name_a_topic_of_nodes(pattern: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Route(pattern, "Own")
    assert refused.value.value == pattern


def test_the_first_matching_route_wins_whether_exact_or_splat() -> None:
    exact, splat = Route("room:lobby", "Lobby"), Route("room:*", "Room")
    assert Router([exact, splat]).match("room:lobby") is exact
    assert Router([splat, exact]).match("room:lobby") is splat
    narrow, wide = Route("food*", "Food"), Route("foo*", "Foo")
    assert Router([narrow, wide]).match("food:1") is narrow
    assert Router([wide, narrow]).match("food:1") is wide
    twice = Route("room:lobby", "Second")
    assert Router([exact, twice]).match("room:lobby") is exact


@given(st.lists(_PATTERNS, max_size=6), _TEXT)
def test_the_table_agrees_with_a_linear_search(patterns: list[str], topic: str) -> None:
    routes = [Route(pattern, index) for index, pattern in enumerate(patterns)]
    expected = next((route for route in routes if route.matches(topic)), None)
    assert Router(routes).match(topic) is expected


def test_a_table_remembers_its_routes_in_order() -> None:
    routes = (Route("b", 1), Route("a*", 2), Route("a", 3))
    assert Router(iter(routes)).routes == routes


def test_assigns_are_copied_and_empty_by_default() -> None:
    given_assigns = {"kind": "public"}
    route = Route("room:*", "Room", assigns=given_assigns)
    given_assigns["kind"] = "private"
    assert route.assigns == {"kind": "public"}
    assert Route("room:*", "Room").assigns == {}


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [("room:*:chat", "room:*"), ("room:**", "room:*"), ("*:room", "*"), ("a*b*", "a*")],
)
def test_a_splat_in_the_middle_raises_with_the_pattern_and_a_correction(
    pattern: str, instead: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Route(pattern, "Room")
    assert str(caught.value) == (
        f"the channel route {pattern!r} has a '*' before its end; "
        f"write {instead!r}, and check the rest of the topic in the channel's join"
    )
    assert caught.value.value == pattern
    Route(instead, "Room")


def test_a_pattern_that_is_not_a_string_is_refused_with_its_type() -> None:
    with pytest.raises(InvalidArgument, match="got the pattern 5 of type int") as caught:
        Route(5, "Room")  # type: ignore[arg-type]
    assert caught.value.value == 5
    assert isinstance(caught.value, ValueError)
