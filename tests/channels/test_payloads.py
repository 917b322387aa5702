"""Typed payloads: handlers get the declared type, and clients get the name of the wrong field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypedDict, TypeVar

import msgspec
import pytest
from attrs import field, frozen, validators

from channels import (
    Binary,
    Channel,
    Endpoint,
    InvalidHandler,
    InvalidPayload,
    PushReply,
    Socket,
    handle_in,
    payloads,
)
from channels.telemetry import PAYLOAD_REFUSED
from tests.channels.conftest import Serve
from tests.channels.support import reply, settle

T = TypeVar("T")


@frozen
class Person:
    name: str
    age: int = field(default=0, validator=validators.ge(0))


@frozen
class NewMessage:
    body: str = field(validator=validators.instance_of(str))
    to: list[Person] = field(factory=list)


@dataclass
class Point:
    x: float
    y: float


class Size(TypedDict):
    width: int


class Note(msgspec.Struct):
    text: str


@frozen
class Price:
    amount: Decimal
    others: list[Decimal] | None = None


class Basket(TypedDict):
    prices: list[Price]
    total: Decimal | None


@dataclass
class Rates:
    rates: dict[str, Decimal]


@dataclass
class Pair(Generic[T]):
    one: T
    two: T


class Tree(msgspec.Struct, rename="camel"):
    """A recursive type, with the other kinds of fields that can hold a number."""

    limits: tuple[str, Decimal] = ("", Decimal(1))
    by_amount: dict[Decimal, str] = {}
    either: list[Decimal] | str | None = None
    pair: Pair[Decimal] | None = None
    sub_trees: list[Tree] = []


@frozen
class Ticket:
    seat: int = field()

    @seat.validator
    def _seat_exists(self, attribute: Any, value: int) -> None:
        if value > 100:
            raise ValueError("There are 100 seats")


@frozen
class Name:
    name: str = field(validator=validators.max_len(8))


class Typed(Channel):
    async def join(self, topic: str, payload: Ticket) -> Any:
        return {"seat": payload.seat}

    @handle_in("new", "also_new")
    async def new(self, payload: NewMessage) -> PushReply:
        assert isinstance(payload, NewMessage)
        return PushReply({"body": payload.body, "to": [person.name for person in payload.to]})

    @handle_in("point")
    async def point(self, payload: Point) -> PushReply:
        return PushReply({"sum": payload.x + payload.y})

    @handle_in("size")
    async def size(self, payload: Size) -> PushReply:
        return PushReply({"width": payload["width"]})

    @handle_in("note")
    async def note(self, payload: Note) -> PushReply:
        return PushReply({"text": payload.text})

    @handle_in("points")
    async def points(self, payload: list[Point]) -> PushReply:
        return PushReply({"many": len(payload)})

    @handle_in("named")
    async def named(self, payload: Name) -> None: ...

    @handle_in("plain")
    async def plain(self, payload: Mapping[str, Any]) -> PushReply:
        return PushReply(dict(payload))

    @handle_in("raw")
    async def raw(self, payload: dict[str, Any] | Binary) -> PushReply:
        return PushReply({"got": type(payload).__name__})

    @handle_in("bare")
    async def bare(self, payload) -> PushReply:  # type: ignore[no-untyped-def]
        return PushReply({"got": type(payload).__name__})


def endpoint(channel: type[Channel] = Typed) -> Endpoint:
    class TypedSocket(Socket):
        channels = {"room:*": channel}

    return Endpoint(sockets={"/socket": TypedSocket})


def refusal(ref: str, field: str | None, problem: str) -> list[Any]:
    response = {"reason": "invalid payload", "field": field, "problem": problem}
    return reply("1", ref, "room:a", response, "error")


JOIN = ("1", "1", "room:a", "phx_join", {"seat": 7})

FITS = [
    ("new", {"body": "hello", "to": [{"name": "ann"}]}, {"body": "hello", "to": ["ann"]}),
    ("also_new", {"body": "hello", "more": 1}, {"body": "hello", "to": []}),
    ("point", {"x": 1, "y": 1.5}, {"sum": 2.5}),
    ("size", {"width": 3}, {"width": 3}),
    ("note", {"text": "x"}, {"text": "x"}),
    ("points", [{"x": 1, "y": 1}], {"many": 1}),
    ("plain", {"any": [1]}, {"any": [1]}),
    ("raw", {"a": 1}, {"got": "dict"}),
    ("bare", [1], {"got": "list"}),
]


@pytest.mark.parametrize(("event", "payload", "answer"), FITS)
async def test_a_matching_payload_arrives_as_the_declared_type(
    serve: Serve, event: str, payload: Any, answer: Any
) -> None:
    client = await (await serve(endpoint())).connect()
    await client.exchange(JOIN)
    got = await client.exchange(("1", "2", "room:a", event, payload))
    assert got == [reply("1", "2", "room:a", answer)]


MISFITS = [
    ("new", {}, "body", "is missing"),
    ("new", {"body": 3}, "body", "expected str, got int"),
    ("new", {"body": "x", "to": [{"name": "a"}, {}]}, "to[1].name", "is missing"),
    ("new", {"body": "x", "to": [{"name": "a", "age": -1}]}, "to[0].age", "must be >= 0: -1"),
    ("new", [], None, "expected object, got array"),
    ("new", "x", None, "expected object, got str"),
    ("point", {"x": 1, "y": "2"}, "y", "expected float, got str"),
    ("size", {"width": None}, "width", "expected int, got null"),
    ("named", {"name": "x" * 9}, "name", "length must be <= 8: 9"),
    ("points", [{"x": 1, "y": 1}, {"x": 1}], "[1].y", "is missing"),
]


@pytest.mark.parametrize(("event", "payload", "field", "problem"), MISFITS)
async def test_a_payload_that_does_not_match_gets_an_error_with_the_field(
    serve: Serve, event: str, payload: Any, field: str | None, problem: str
) -> None:
    client = await (await serve(endpoint())).connect()
    await client.exchange(JOIN)
    got = await client.exchange(("1", "2", "room:a", event, payload))
    assert got == [refusal("2", field, problem)]
    got = await client.exchange(("1", "3", "room:a", "size", {"width": 3}))
    assert got == [reply("1", "3", "room:a", {"width": 3})]


@pytest.mark.parametrize(
    ("payload", "field", "problem"),
    [({}, "seat", "is missing"), ({"seat": 101}, "seat", "there are 100 seats")],
)
async def test_a_join_whose_payload_does_not_match_is_refused(
    serve: Serve, payload: Any, field: str | None, problem: str
) -> None:
    client = await (await serve(endpoint())).connect()
    got = await client.exchange(("1", "1", "room:a", "phx_join", payload))
    assert got == [refusal("1", field, problem)]
    assert await client.exchange(JOIN) == [reply("1", "1", "room:a", {"seat": 7})]


async def test_a_refused_payload_emits_an_event(serve: Serve) -> None:
    server = await serve(endpoint())
    told: list[tuple[str, InvalidPayload]] = []
    server.runtime.telemetry.attach(
        PAYLOAD_REFUSED, lambda _, __, about: told.append((about["event"], about["error"]))
    )
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {"seat": "front"}))
    await client.exchange(JOIN)
    await client.exchange(("1", "2", "room:a", "new", {}))
    assert [(event, error.field, error.problem) for event, error in told] == [
        ("phx_join", "seat", "expected int, got str"),
        ("new", "body", "is missing"),
    ]
    assert str(told[1][1]) == "body: is missing"


async def test_binary_does_not_match_a_record(serve: Serve) -> None:
    client = await (await serve(endpoint())).connect()
    await client.exchange(JOIN)
    frame = bytes([0, 1, 1, 6, 3]) + b"12room:anew" + b"\x00\x01"
    client.send_binary(frame)
    await settle()
    assert client.frames() == [refusal("2", None, "is binary, but the handler expects JSON")]


def test_an_annotation_that_does_not_resolve_is_an_invalid_handler() -> None:
    class Local(Channel):
        @handle_in("new")
        async def new(self, payload: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(
        InvalidHandler, match="declares its payload as Nowhere, which does not resolve"
    ):
        endpoint(Local).check()


class NoRecord:
    pass


UNDER_ANOTHER_MAIN = """
from __future__ import annotations
from attrs import frozen
from channels import Channel, handle_in
@frozen
class Note:
    text: str
class NoteChannel(Channel):
    @handle_in("note")
    async def note(self, payload: Note):
        self.push("noted", {"text": payload.text})
"""


def test_an_annotation_resolves_in_the_module_of_its_handler() -> None:
    program: dict[str, Any] = {"__name__": "__main__"}
    exec(UNDER_ANOTHER_MAIN, program)

    class NoteSocket(Socket):
        channels = {"notes": program["NoteChannel"]}

    Endpoint(sockets={"/socket": NoteSocket}).check()


def test_a_class_that_msgspec_cannot_convert_to_is_an_invalid_handler() -> None:
    class Odd(Channel):
        @handle_in("new")
        async def new(self, payload: NoRecord) -> None: ...

    with pytest.raises(InvalidHandler, match="write an attrs class, a dataclass") as caught:
        endpoint(Odd).check()
    assert caught.value.handler == "new"


@frozen
class Holds:
    record: NoRecord


@frozen
class Forgives:
    """An unknown class in an optional field is legal, and the record can contain itself."""

    record: NoRecord | None = None
    more: list[Forgives] = field(factory=list)


@pytest.mark.parametrize("wanted", [list[NoRecord], dict[str, list[NoRecord]], Holds, list[Holds]])
def test_a_type_that_contains_such_a_class_is_an_invalid_handler(wanted: Any) -> None:
    class Odd(Channel):
        @handle_in("new")
        async def new(self, payload: Any) -> None: ...

    Odd.new.__annotations__["payload"] = wanted
    with pytest.raises(InvalidHandler, match="cannot convert to the class NoRecord in it; write"):
        endpoint(Odd).check()
    Odd.new.__annotations__["payload"] = Forgives
    endpoint(Odd).check()


async def test_a_subclass_may_declare_another_type_for_its_join(serve: Serve) -> None:
    class Loose(Typed):
        async def join(self, topic: str, payload: Any) -> Any:
            return payload

    client = await (await serve(endpoint(Loose))).connect()
    join = ("1", "1", "room:a", "phx_join", {"anything": 1})
    assert await client.exchange(join) == [reply("1", "1", "room:a", {"anything": 1})]


class Shop(Channel):
    @handle_in("price")
    async def price(self, payload: Price) -> PushReply:
        return PushReply({"amount": str(payload.amount)})

    @handle_in("basket")
    async def basket(self, payload: Basket) -> PushReply:
        return PushReply()

    @handle_in("tree")
    async def tree(self, payload: Tree) -> PushReply:
        return PushReply()

    @handle_in("rates")
    async def rates(self, payload: Rates) -> PushReply:
        return PushReply()


@pytest.mark.parametrize(
    ("event", "payload", "field"),
    [
        *(("price", {"amount": each}, "amount") for each in ("NaN", "sNaN", "-Infinity", "inf")),
        *(("price", {"amount": each}, "amount") for each in ("1E+999999999", "-1E-999999999")),
        ("price", {"amount": "0E+999999999"}, "amount"),
        ("price", {"amount": "1", "others": ["2", "NaN"]}, "others[1]"),
        (
            "basket",
            {"prices": [{"amount": "1"}, {"amount": "NaN"}], "total": None},
            "prices[1].amount",
        ),
        ("basket", {"prices": [], "total": "1E+6145"}, "total"),
        ("rates", {"rates": {"usd": "1", "eur": "NaN"}}, "rates.eur"),
        ("tree", {"limits": ["NaN", "NaN"]}, "limits[1]"),
        ("tree", {"byAmount": {"1": "", "NaN": ""}}, "byAmount"),
        ("tree", {"either": ["1", "NaN"]}, "either[1]"),
        ("tree", {"pair": {"one": "1", "two": "NaN"}}, "pair.two"),
        (
            "tree",
            {"subTrees": [{}, {"subTrees": [{"either": ["NaN"]}]}]},
            "subTrees[1].subTrees[0].either[0]",
        ),
    ],
)
async def test_a_decimal_is_finite_and_of_a_bounded_size(
    serve: Serve, event: str, payload: Any, field: str
) -> None:
    client = await (await serve(endpoint(Shop))).connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {}))
    ((*_, answer),) = await client.exchange(("1", "2", "room:a", event, payload))
    assert (answer["status"], answer["response"]["field"]) == ("error", field)


def test_the_check_of_decimals_visits_only_the_fields_that_can_hold_one() -> None:
    class Untouched(list[str]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("visited")

    @frozen
    class Order:
        names: list[str]
        amount: Decimal
        tags: dict[str, str | list[int]]

    find = payloads._finder_of(msgspec.inspect.type_info(Order), {})
    assert find is not None
    tags: Any = {"a": Untouched()}
    assert find(Order(Untouched(), Decimal(1), tags)) is None
    assert find(Order(Untouched(), Decimal("NaN"), tags)) == (
        ".amount",
        "expected a finite number, got NaN",
    )
    problem = "expected an exponent between -6144 and 6144, got 1.000E-7000"
    assert find(Order(Untouched(), Decimal("1E-7000"), tags)) == (".amount", problem)
    assert payloads._finder_of(msgspec.inspect.type_info(list[str]), {}) is None


@pytest.mark.parametrize("amount", ["1.50", 3, 0.25, "-1E+6144", "1E-6144", "0"])
async def test_a_decimal_of_a_usual_size_is_accepted(serve: Serve, amount: Any) -> None:
    client = await (await serve(endpoint(Shop))).connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {}))
    got = await client.exchange(("1", "2", "room:a", "price", {"amount": amount}))
    assert got == [reply("1", "2", "room:a", {"amount": str(Decimal(str(amount)))})]
