"""Verdicts, windows, pictures, bad input, and histories that are recorded in a run."""

from __future__ import annotations

from typing import Any

import pytest

from actors import GenServer, NoProcess, Reply, call
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


def test_an_exception_of_the_model_names_the_operation() -> None:
    class Broken(Register):
        def step(self, state: Any, operation: Operation) -> tuple[Any, Any]:
            return [], 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        check_linearizable([op("a", "compare_and_set", 1, 2, at=(1, 2))], Broken())
    assert "Broken.step got `a: compare_and_set(1, 2) -> None`" in caught.value.__notes__[0]


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
