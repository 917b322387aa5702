"""Advice in the errors about invalid arguments, one row for each message."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from actors import GenServer, InvalidArgument, InvalidOption, Runtime, as_process
from supervision import DynamicSupervisor, InvalidChildSpec, Supervisor, Task, process_spec

HERE = __file__


class Counter(GenServer[int]):
    pass


async def flush() -> None:
    raise AssertionError("not reached")


def tick() -> None:
    raise AssertionError("not reached")


def _line(function: Any) -> int:
    return int(function.__code__.co_firstlineno)


CHILDREN: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: Counter.start_link(0),
        (
            "the coroutine of Counter.start_link, which was not awaited, cannot be a child; a supervisor starts its "
            "children itself; write child_spec(Counter, ...) with the arguments"
        ),
    ),
    (
        lambda: Supervisor.start_link([]),
        (
            "the coroutine of Supervisor.start_link, which was not awaited, cannot be a child; a supervisor starts its "
            "children itself; write child_spec(Supervisor, ...) with the arguments"
        ),
    ),
    (
        lambda: flush(),  # noqa: PLW0108 # to be told from the function itself
        (
            f"the coroutine of flush ({HERE}:{_line(flush)}), which was not awaited, cannot be a child; "
            "write process_spec(flush, ...) with the arguments"
        ),
    ),
    (
        lambda: flush,
        f"the function flush ({HERE}:{_line(flush)}) cannot be a child; write process_spec(flush, ...)",
    ),
    (
        lambda: tick,
        (
            f"the function tick ({HERE}:{_line(tick)}) cannot be a child; it is not async; write `async def` and "
            "process_spec(tick, ...)"
        ),
    ),
    (
        lambda: (Counter, 0),
        f"({Counter!r}, 0) cannot be a child; write child_spec(Counter, 0)",
    ),
]


@pytest.mark.parametrize(("make", "said"), CHILDREN)
async def test_a_value_that_cannot_be_a_child_gets_advice(
    runtime: Runtime, make: Callable[[], Any], said: str
) -> None:
    before = runtime.statistics()["spawned"]
    with pytest.raises(InvalidChildSpec) as caught:
        await Supervisor.start_link([make()])
    assert str(caught.value).partition(": ")[2] == said
    assert runtime.statistics()["spawned"] == before


async def test_a_pid_as_a_child_gets_advice(
    runtime: Runtime,
) -> None:
    pid: Any = await Counter.start()
    with pytest.raises(InvalidChildSpec, match=r"that process runs already, .* write the class"):
        await Supervisor.start_link([pid])


LISTS: list[tuple[Any, str]] = [
    (Counter, "write a list, even for one child: [Counter]"),
    (process_spec(flush), "write a list, even for one child: [child]"),
    ({"counter": Counter}, "write a list of the values; a child's name goes into child_spec"),
    ("Counter", "write a list of specs, or of classes with start_link"),
    (None, "write a list of specs, or of classes with start_link"),
]


@pytest.mark.parametrize(("children", "said"), LISTS)
async def test_children_that_are_not_a_list_get_advice(
    runtime: Runtime, children: Any, said: str
) -> None:
    for start in (Supervisor.start_link, Supervisor.start):
        with pytest.raises(InvalidOption) as caught:
            await start(children)
        assert str(caught.value).startswith("a supervisor got children=")
        assert said in str(caught.value)
    with pytest.raises(InvalidOption):
        Supervisor.child_spec(children)


@pytest.mark.parametrize(
    ("supervisor", "args", "kwargs", "call"),
    [
        (Supervisor, ([],), {"strategy": "one_for_all"}, "([], strategy='one_for_all')"),
        (DynamicSupervisor, (), {"max_children": 3}, "(max_children=3)"),
    ],
)
def test_a_call_of_a_supervisor_class_raises_with_advice(
    supervisor: Any, args: tuple[Any, ...], kwargs: dict[str, Any], call: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        supervisor(*args, **kwargs)
    name = supervisor.__name__
    assert str(caught.value) == (
        f"{name}{call} makes an instance and starts no process; write `await {name}.start_link{call}`"
    )


async def test_a_request_to_a_supervisor_class_gets_advice(runtime: Runtime) -> None:
    with pytest.raises(InvalidArgument, match="got the class Supervisor, which is not the name"):
        await Supervisor.which_children(Supervisor)


def test_process_spec_refuses_a_function_that_is_not_async() -> None:
    wrong: Any = tick
    with pytest.raises(InvalidChildSpec) as caught:
        process_spec(wrong)
    assert str(caught.value).startswith(
        f"child spec 'tick': process_spec() got tick ({HERE}:{_line(tick)}), which is not async"
    )
    with pytest.raises(InvalidChildSpec, match="pass the function itself"):
        process_spec(flush())  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", [Task.async_, Task.start, Task.start_link])
async def test_a_task_refuses_a_function_that_is_not_async(
    runtime: Runtime, verb: Callable[..., Any]
) -> None:
    async with as_process():
        for wrong in (tick, flush(), Counter):
            with pytest.raises(InvalidArgument, match=rf"Task\.{verb.__name__}\(\) got "):
                verb(wrong)
    assert inspect.iscoroutinefunction(flush)
