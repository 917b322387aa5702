"""Routing of events to handler methods, and errors about methods that cannot be handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from channels import Channel, ChannelsError, InvalidHandler, handle_in, handle_out
from channels.handlers import check
from channels.payloads import table_of


class Base(Channel):
    @handle_in("one", "uno")
    async def one(self, payload: Any) -> None: ...

    @handle_in("two")
    async def two(self, payload: Any) -> None: ...

    @handle_out("three")
    @handle_in("three")
    async def three(self, payload: Any) -> None: ...


def names(channel: type[Channel], direction: str) -> dict[str, str]:
    table = table_of(channel)
    handlers = table.incoming if direction == "in" else table.outgoing
    return {event: function.__qualname__ for event, function in handlers.items()}


def test_a_method_may_handle_several_events_in_both_directions() -> None:
    assert names(Base, "in") == {
        "one": "Base.one",
        "uno": "Base.one",
        "two": "Base.two",
        "three": "Base.three",
    }
    assert names(Base, "out") == {"three": "Base.three"}


def test_a_subclass_inherits_handlers_and_overriding_a_method_overrides_it_under_its_events() -> (
    None
):
    class Special(Base):
        async def one(self, payload: Any) -> None: ...

        @handle_in("four")
        async def four(self, payload: Any) -> None: ...

    where = Special.__qualname__
    assert names(Special, "in") == {
        "one": f"{where}.one",
        "uno": f"{where}.one",
        "two": "Base.two",
        "three": "Base.three",
        "four": f"{where}.four",
    }
    assert table_of(Base).incoming.keys() == {"one", "uno", "two", "three"}


def test_a_subclass_may_handle_an_event_of_its_base_with_another_method() -> None:
    class Special(Base):
        @handle_in("two")
        async def instead(self, payload: Any) -> None: ...

    assert names(Special, "in")["two"] == f"{Special.__qualname__}.instead"


def test_a_channel_inherits_the_handlers_of_a_mixin() -> None:
    class Mixin:
        @handle_in("mixed")
        async def mixed(self, payload: Any) -> None: ...

    class Special(Mixin, Base):
        pass

    assert "mixed" in names(Special, "in")
    assert "one" in names(Special, "in")


def test_a_class_knows_its_intercepted_events() -> None:
    assert table_of(Base).intercepts == {"three"}
    assert table_of(Channel).intercepts == frozenset()


def test_valid_channels_pass_the_check() -> None:
    class Fine(Base):
        def __init__(self) -> None:
            self.mine = 1

        async def join(self, topic: str, payload: Any, *, extra: int = 0) -> Any: ...

        @handle_in("any")
        async def anything(self, *args: Any) -> None: ...

        @handle_in("bound")
        async def other_name(self, body: Any, more: Any = None) -> None: ...

    class Named(Channel):
        @handle_out("new_msg")
        async def handle_out(self, payload: Any) -> None: ...

    check(Fine)
    check(Named)
    check(Base)
    check(Channel)


def not_async() -> type[Channel]:
    class Room(Channel):
        @handle_in("new_msg")  # type: ignore[type-var]
        def new_msg(self, payload: Any) -> None: ...

    return Room


def too_few() -> type[Channel]:
    class Room(Channel):
        @handle_in("new_msg")
        async def new_msg(self) -> None: ...

    return Room


def too_many() -> type[Channel]:
    class Room(Channel):
        @handle_out("new_msg")
        async def new_msg(self, topic: str, payload: Any) -> None: ...

    return Room


def a_keyword_too_many() -> type[Channel]:
    class Room(Channel):
        @handle_in("new_msg")
        async def new_msg(self, payload: Any, *, more: int) -> None: ...

    return Room


def without_self() -> type[Channel]:
    class Room(Channel):
        @staticmethod
        @handle_in("new_msg")
        async def new_msg(payload: Any) -> None: ...

    return Room


def taken_away() -> type[Channel]:
    class Room(Base):
        one = None  # type: ignore[assignment]

    return Room


def join_without_payload() -> type[Channel]:
    class Room(Channel):
        async def join(self, topic: str) -> None: ...  # type: ignore[override]

    return Room


def join_not_async() -> type[Channel]:
    class Room(Channel):
        def join(self, topic: str, payload: Any) -> None: ...  # type: ignore[override]

    return Room


def terminate_not_async() -> type[Channel]:
    class Room(Channel):
        def terminate(self, reason: Any) -> None: ...  # type: ignore[override]

    return Room


def info_without_message() -> type[Channel]:
    class Room(Channel):
        async def handle_info(self) -> None: ...  # type: ignore[override]

    return Room


def phoenix_handle_out() -> type[Channel]:
    class Room(Channel):
        async def handle_out(self, event: str, payload: Any) -> None: ...

    return Room


def phoenix_intercept() -> type[Channel]:
    class Room(Channel):
        intercept = ["user_joined"]

    return Room


WRONG: list[tuple[Callable[[], type[Channel]], str, str]] = [
    (
        not_async,
        'Room.new_msg is declared for handle_in("new_msg") but is not async; ',
        "write `async def new_msg(self, payload)`",
    ),
    (
        too_few,
        'Room.new_msg is declared for handle_in("new_msg") but cannot be called with (payload); ',
        "it is `async def new_msg(self)`, write `async def new_msg(self, payload)`",
    ),
    (
        too_many,
        'Room.new_msg is declared for handle_out("new_msg") but cannot be called with (payload); ',
        "it is `async def new_msg(self, topic, payload)`, write `async def new_msg(self, payload)`",
    ),
    (
        a_keyword_too_many,
        'Room.new_msg is declared for handle_in("new_msg") but cannot be called with (payload); ',
        "it is `async def new_msg(self, payload, *, more)`, write `async def new_msg(self, payload)`",
    ),
    (
        without_self,
        'Room.new_msg is declared for handle_in("new_msg") but cannot be called with (payload); ',
        "it is `async def new_msg(payload)`, write `async def new_msg(self, payload)`",
    ),
    (
        taken_away,
        'Room.one is declared for handle_in("one") but is None; ',
        "write `async def one(self, payload)`",
    ),
    (
        join_without_payload,
        "Room.join cannot be called with (topic, payload); ",
        "it is `async def join(self, topic)`, write `async def join(self, topic, payload)`",
    ),
    (join_not_async, "Room.join is not async; ", "write `async def join(self, topic, payload)`"),
    (
        terminate_not_async,
        "Room.terminate is not async; ",
        "write `async def terminate(self, reason)`",
    ),
    (
        phoenix_handle_out,
        "Room.handle_out has no effect; ",
        'write @handle_out("event") above a method that takes the payload',
    ),
    (
        phoenix_intercept,
        "Room.intercept has no effect; ",
        'write @handle_out("event") above a method for each event, and nothing else',
    ),
    (
        info_without_message,
        "Room.handle_info cannot be called with (message); ",
        "it is `async def handle_info(self)`, write `async def handle_info(self, message)`",
    ),
]


@pytest.mark.parametrize(
    ("declare", "problem", "advice"), WRONG, ids=[declare.__name__ for declare, *_ in WRONG]
)
def test_an_invalid_channel_raises_with_a_correction(
    declare: Callable[[], type[Channel]], problem: str, advice: str
) -> None:
    room = declare()
    with pytest.raises(InvalidHandler) as caught:
        check(room)
    assert str(caught.value) == problem + advice
    assert caught.value.channel is room
    assert problem.startswith(f"Room.{caught.value.handler} ")


def test_a_decorator_without_events_raises_with_a_correction() -> None:
    async def new_msg(self: Any, payload: Any) -> None: ...

    for decorator, name in ((handle_in, "handle_in"), (handle_out, "handle_out")):
        with pytest.raises(InvalidHandler) as caught:
            decorator(new_msg)  # type: ignore[arg-type]
        assert str(caught.value) == (
            f'{name} takes the names of events: write @{name}("new_msg"), not @{name}, above new_msg'
        )
        with pytest.raises(InvalidHandler):
            decorator()
        with pytest.raises(InvalidHandler):
            decorator(3)  # type: ignore[arg-type]


def test_mistakes_are_errors_of_channels_and_type_errors() -> None:
    assert issubclass(InvalidHandler, ChannelsError)
    assert issubclass(InvalidHandler, TypeError)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("pushes", ["new_msg"], "write a dict from events to types"),
        ("pushes", {1: int}, "write a dict from events to types"),
        ("pushes", {"new_msg": "Message"}, "pushes['new_msg'] is 'Message', which is not a type"),
        ("replies", {"one": 3}, "replies['one'] is 3, which is not a type"),
        ("replies", {"one": {"ok": 3}}, "replies['one'] is 3, which is not a type"),
        ("replies", {"one": {200: int}}, "has the status 200 for 'one'"),
        ("replies", {"on": int}, "has the event 'on', which Special does not handle; write one of"),
    ],
)
def test_a_wrong_declaration_of_types_is_refused_when_python_creates_the_class(
    name: str, value: Any, problem: str
) -> None:
    with pytest.raises(InvalidHandler) as error:
        type("Special", (Base,), {name: value})
    assert problem in str(error.value)
    assert error.value.handler == name


def test_types_may_be_classes_unions_and_none_and_a_join_may_have_replies() -> None:
    class Special(Base):
        pushes = {"moved": dict[str, int], "closed": None, "anything": Any, "both": int | str}
        replies = {"one": int, "phx_join": {"error": dict[str, str]}}

    class Open(Channel):
        replies = {"any event": int}

        async def handle_in(self, event: str, payload: Any) -> None: ...

    assert set(Special.pushes) == {"moved", "closed", "anything", "both"}
    assert set(Open.replies) == {"any event"}
