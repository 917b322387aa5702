"""Verdicts, windows, pictures, bad input, and histories that are recorded in a run."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import GenServer, NoProcess, Reply, call, spawn, wait_exit
from actors.errors import InvalidArgument
from actors.runtime import open_runtime
from supervision.histories import (
    Counter,
    Fate,
    Map,
    Model,
    Operation,
    OperationHistory,
    Queue,
    Register,
    Set,
    check_exactly_once,
    check_linearizable,
    check_one_owner,
    check_sequential,
    check_session,
    lanes,
)


def op(client: str, name: str, *arguments: Any, at: tuple[float, float], **more: Any) -> Operation:
    return Operation(client=client, name=name, arguments=arguments, start=at[0], end=at[1], **more)


STALE = [
    op("a", "write", 1, at=(1, 4)),
    op("b", "read", at=(2, 3), result=1),
    op("c", "read", at=(5, 6)),
    op("d", "write", 2, at=(7, 8)),
]


def test_the_window_has_only_the_operations_that_contradict_each_other() -> None:
    verdict = check_linearizable(STALE, Register())
    assert verdict.ok is False
    assert verdict.window == tuple(STALE[:3])
    assert "no order of these 3 operations" in verdict.problem
    assert lanes(verdict.window).splitlines() == [
        "a  |- write(1) -> None -|",
        "b   |- read() -> 1 -|",
        "c                        |- read() -> None -|",
    ]


@pytest.mark.parametrize(
    ("model", "good", "wrong"),
    [
        (Counter(), [("increment", (), 1), ("add", (2,), None), ("read", (), 3)], 2),
        (Set(), [("add", ("x",), True), ("add", ("x",), False), ("read", (), ["x"])], []),
        (Queue(), [("put", ("x",), None), ("put", ("y",), None), ("take", (), "x")], "y"),
        (Map(), [("put", ("k", 1), None), ("delete", ("k",), True), ("get", ("k",), None)], 1),
        (
            Register(7),
            [("read", (), 7), ("write", (8,), None), ("compare_and_set", (8, 9), True)],
            False,
        ),
    ],
)
def test_each_model_accepts_a_correct_history_and_refuses_a_wrong_answer(
    model: Model[Any], good: list[tuple[str, tuple[Any, ...], Any]], wrong: Any
) -> None:
    history = [
        op("a", name, *arguments, at=(2 * n, 2 * n + 1), result=result)
        for n, (name, arguments, result) in enumerate(good)
    ]
    assert check_linearizable(history, model).ok is True
    last = op("a", good[-1][0], *good[-1][1], at=(history[-1].start, history[-1].end), result=wrong)
    assert check_linearizable([*history[:-1], last], model).ok is False


@pytest.mark.parametrize("value", [{"a": 1}, ["x"], ({"a": 1},)])
def test_a_register_with_values_that_are_not_hashable_gets_an_error(value: Any) -> None:
    history = [op("a", "write", value, at=(1, 2)), op("b", "read", at=(3, 4), result=value)]
    with pytest.raises(TypeError) as caught:
        check_linearizable(history, Register())
    assert "A state must be hashable, such as a tuple or a frozenset" in caught.value.__notes__[0]


def test_an_operation_without_an_answer_may_have_had_its_effect_or_not() -> None:
    lost = Operation(client="a", name="write", arguments=(1,), start=1, fate=Fate.OPEN)
    for seen in (None, 1):
        assert check_linearizable([lost, op("b", "read", at=(5, 6), result=seen)], Register()).ok
    failed = Operation(client="a", name="write", arguments=(1,), start=1, end=2, fate=Fate.FAILED)
    assert not check_linearizable([failed, op("b", "read", at=(5, 6), result=1)], Register()).ok


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        ([op("a", "read", at=(2, 1))], "ends at 1, before its start 2"),
        ([Operation(client="a", name="read", start=1)], "has no end; write fate=Fate.OPEN"),
        ([op("a", "read", at=(1, 3)), op("a", "read", at=(2, 4))], "of one client overlap"),
        ([op("a", "jump", at=(1, 2))], "the model Register has no operation 'jump'"),
    ],
)
def test_a_malformed_history_gets_an_error_that_shows_the_operation(
    history: list[Operation], problem: str
) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        check_linearizable(history, Register())


class Raising(Register):
    def step(self, state: Any, operation: Operation) -> tuple[Any, Any]:
        raise ZeroDivisionError


class UnhashableStates(Register):
    def step(self, state: Any, operation: Operation) -> tuple[Any, Any]:
        return [operation.name], True


class UnhashableFirstState(Register):
    def init(self) -> Any:
        return {}


class NoPair(Register):
    def step(self, state: Any, operation: Operation) -> Any:
        return None


UNHASHABLE: Any = [["x"]]


class Incomparable:
    """An array compares its items, so that `if one == other` raises."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __repr__(self) -> str:
        return "an array"


@pytest.mark.parametrize(
    ("model", "error", "note"),
    [
        (Raising(), ZeroDivisionError, "Raising.step got `a: compare_and_set(1, 2) -> None`"),
        (UnhashableStates(), TypeError, "A state must be hashable, such as a tuple"),
        (UnhashableFirstState(), TypeError, "UnhashableFirstState.init returned {}"),
        (NoPair(), TypeError, "in the state None; it returns the next state and the result"),
    ],
)
@pytest.mark.parametrize("check", [check_linearizable, check_sequential])
def test_an_exception_of_a_wrong_model_names_the_operation_and_the_mistake(
    check: Any, model: Model[Any], error: type[Exception], note: str
) -> None:
    with pytest.raises(error) as caught:
        check([op("a", "compare_and_set", 1, 2, at=(1, 2))], model)
    assert note in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("check", "history", "note"),
    [
        (
            lambda history: check_linearizable(history, Counter()),
            [op("a", "read", at=(1, 2), result=Incomparable())],
            "Counter cannot compare the result 0 with that of `a: read() -> an array`",
        ),
        (
            lambda history: check_linearizable(history, Register()),
            [op("a", "read", at=(1, 2), key=[])],
            "needs a client and a key that are hashable",
        ),
        (
            check_session,
            [op("a", "read", at=(1, 2), result=1), op("a", "read", at=(3, 4), result="x")],
            "check_session compares versions; a write returns the one it made: `a: read() -> 'x'`",
        ),
        (
            lambda history: check_exactly_once(history, UNHASHABLE),
            [op("a", "append", "x", at=(1, 2))],
            "check_exactly_once needs effects that are hashable",
        ),
        (
            lambda history: check_exactly_once(history, []),
            [op("a", "append", at=(1, 2))],
            "takes the id of its effect from `a: append() -> None`; pass effect=",
        ),
        (
            check_one_owner,
            [op("a", "own", 1, at=(1, 2)), op("b", "own", "x", at=(3, 4))],
            "check_one_owner compares the fences of None; pass fence=",
        ),
    ],
)
def test_results_that_cannot_be_compared_get_an_error_that_names_them(
    check: Any, history: list[Operation], note: str
) -> None:
    with pytest.raises((TypeError, ValueError, IndexError)) as caught:
        check(history)
    assert note in caught.value.__notes__[0]


def test_an_effect_that_is_lost_doubled_or_unknown_is_found() -> None:
    history = [op("a", "append", "x", at=(1, 2)), op("a", "append", "y", at=(3, 4))]
    assert check_exactly_once(history, ["x", "y"]).ok
    for effects, problem in [
        (["x"], "'y' is lost"),
        (["x", "y", "x"], "'x' is there 2 times"),
        (["x", "y", "z"], "no operation has caused the effect 'z'"),
    ]:
        assert problem in check_exactly_once(history, effects).problem


def test_a_client_that_sees_the_past_return_is_found() -> None:
    history = [op("a", "write", at=(1, 2), result=1), op("b", "read", at=(3, 4))]
    assert check_session(history).ok
    verdict = check_session([*history, op("a", "read", at=(5, 6))])
    assert "a saw version None after its own write, which was version 1" in verdict.problem


def test_overlapping_owners_and_old_fences_are_found() -> None:
    first, second = op("a", "own", 1, at=(1, 5), key="k"), op("b", "own", 2, at=(6, 9), key="k")
    append = op("storage", "append", 2, at=(7, 8), key="k")
    assert check_one_owner([first, second, append]).ok
    overlap = op("b", "own", 2, at=(4, 9), key="k")
    assert "two owners of 'k' at once" in check_one_owner([first, overlap]).problem
    equal = op("b", "own", 1, at=(6, 9), key="k")
    assert "did not grow: 1, then 1" in check_one_owner([first, equal]).problem
    late = op("a", "append", 1, at=(7, 8), key="k")
    assert (
        "was accepted, although the owner has 2" in check_one_owner([first, second, late]).problem
    )


class Cell(GenServer[Any]):
    async def handle_call(self, request: Any, sender: Any) -> Reply:
        match request:
            case ("write", value):
                self.state = value
                return Reply(None)
        return Reply(self.state)


async def test_calls_of_a_runtime_are_recorded_and_checked() -> None:
    history = OperationHistory()
    async with open_runtime():
        cell = await Cell.start_link()
        with history.recording():
            await call(cell, ("write", 7))
            assert await call(cell, "read") == 7
        await call(cell, ("write", 8))
    assert [str(each).partition(": ")[2] for each in history] == [
        f"write[{cell}](7) -> None",
        f"read[{cell}]() -> 7",
    ]
    check_linearizable(history, Register()).require()


async def test_calls_of_one_client_at_the_same_time_have_lanes_of_their_own() -> None:
    history = OperationHistory()
    async with open_runtime():
        cell = await Cell.start_link(name="cell")

        async def program() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, cell, ("write", 7))
                nursery.start_soon(call, cell, "read")

        with history.recording("c*ll"):
            await wait_exit(spawn(program))
        with history.recording("another"):
            await call(cell, "read")
    assert {each.key for each in history} == {"cell"}
    one, other = (each.client for each in history)
    assert other == (one, 1)
    assert check_linearizable(history, Register()).ok


async def test_an_operation_that_never_ran_has_failed_and_any_other_error_leaves_it_open() -> None:
    history = OperationHistory()
    async with open_runtime():
        for error, fate in [("nobody", Fate.FAILED), (None, Fate.OPEN)]:
            with pytest.raises((NoProcess, ValueError)), history.operation("a", "write", 1):
                if error is not None:
                    await call(error, "write")
                raise ValueError
            assert list(history)[-1].fate is fate
    with history.operation("a", "read") as operation:
        operation.result = 1
    # The client goes on under a new name, because its open operation may still run.
    assert [each.client for each in history] == ["a", "a", ("a", 1)]
