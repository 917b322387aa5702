import math
from typing import Any

import pytest

from actors import GenServer, Pid, receive, send, wait_exit
from actors.runtime import Runtime
from supervision import (
    ChildSpec,
    DynamicSupervisor,
    InvalidChildSpec,
    Supervisor,
    child_spec,
    process_spec,
)


class Counter(GenServer[int]):
    pass


class Custom(GenServer[int]):
    @classmethod
    def child_spec(cls, first: int, *, step: int = 1) -> ChildSpec:
        return ChildSpec("custom", cls.start_link, (first,), {"step": step}, restart="transient")


class Plain:
    pass


async def start() -> Pid:
    raise AssertionError("nothing is started in these tests")


def refusal(**fields: Any) -> InvalidChildSpec:
    with pytest.raises(InvalidChildSpec) as caught:
        ChildSpec(**{"id": "child", "start": start, **fields})
    return caught.value


def test_the_defaults_are_those_of_otp() -> None:
    spec = ChildSpec("child", start)
    assert (spec.args, dict(spec.kwargs)) == ((), {})
    assert (spec.restart, spec.type, spec.shutdown) == ("permanent", "worker", 5.0)
    assert spec.significant is False


def test_a_supervisor_child_has_no_shutdown_limit_by_default() -> None:
    assert ChildSpec("child", start, type="supervisor").shutdown == math.inf
    assert ChildSpec("child", start, type="supervisor", shutdown=1.0).shutdown == 1.0


@pytest.mark.parametrize(
    ("field", "value", "advice"),
    [
        ("id", [], "hashable"),
        ("restart", "always", "transient"),
        ("restart", None, "transient"),
        ("restart", [], "transient"),
        ("type", "boss", "supervisor"),
        ("shutdown", -1, "brutal_kill"),
        ("shutdown", math.nan, "brutal_kill"),
        ("shutdown", True, "brutal_kill"),
        ("shutdown", "infinity", "math.inf"),
        ("shutdown", None, "brutal_kill"),
        ("args", 5, "(argument,)"),
        ("args", "text", "(argument,)"),
        ("kwargs", [1], "dict"),
        ("significant", 1, "True or False"),
        ("significant", True, 'restart="transient"'),
        ("start", None, "async function"),
        ("start", Counter, "Counter.start_link"),
        ("start", Plain, "without start_link"),
    ],
)
def test_an_invalid_field_is_refused_with_advice(field: str, value: Any, advice: str) -> None:
    error = refusal(**{field: value})
    assert (error.field, error.value) == (field, value)
    assert advice in str(error)
    assert repr(error.id) in str(error)


def test_a_coroutine_as_start_is_refused_without_a_warning() -> None:
    error = refusal(start=start())
    assert error.field == "start"
    assert "pass the function itself" in str(error)


def test_a_shutdown_of_zero_and_a_brutal_kill_and_infinity_are_allowed() -> None:
    for shutdown in (0, 0.05, math.inf, "brutal_kill"):
        assert ChildSpec("child", start, shutdown=shutdown).shutdown == shutdown


def test_a_spec_does_not_change_with_the_dict_or_list_it_was_made_from() -> None:
    args, kwargs = [1], {"step": 1}
    spec = ChildSpec("child", start, args, kwargs)
    args.append(2)
    kwargs["step"] = 2
    assert (spec.args, spec.kwargs["step"]) == ((1,), 1)
    with pytest.raises(TypeError):
        spec.kwargs["step"] = 3  # type: ignore[index]


def test_a_class_becomes_a_spec_named_after_it() -> None:
    spec = child_spec(Counter, 1, 2)
    assert (spec.id, spec.start, spec.args) == ("Counter", Counter.start_link, (1, 2))


def test_a_named_class_becomes_a_spec_of_that_name() -> None:
    spec = child_spec(Counter, kwargs={"name": "counter"})
    assert (spec.id, dict(spec.kwargs)) == ("counter", {"name": "counter"})
    assert child_spec(Counter, kwargs={"name": "counter"}, id="other").id == "other"


def test_overrides_are_fields_of_the_spec() -> None:
    spec = child_spec(Counter, 1, restart="temporary", shutdown="brutal_kill")
    assert (spec.restart, spec.shutdown, spec.args) == ("temporary", "brutal_kill", (1,))


def test_the_child_spec_method_of_a_class_makes_its_spec() -> None:
    spec = child_spec(Custom, 5, kwargs={"step": 2}, id="mine")
    assert (spec.id, spec.args, dict(spec.kwargs)) == ("mine", (5,), {"step": 2})
    assert spec.restart == "transient"


def test_child_spec_returns_a_spec_or_a_changed_copy_of_it() -> None:
    spec = child_spec(Counter, 1)
    assert child_spec(spec) is spec
    changed = child_spec(spec, id="second", restart="transient")
    assert (changed.id, changed.restart, changed.args) == ("second", "transient", (1,))


def test_an_unknown_override_is_refused_with_advice() -> None:
    with pytest.raises(InvalidChildSpec, match=r"kwargs=\{'name': ...\}") as caught:
        child_spec(Counter, name="counter")
    assert (caught.value.id, caught.value.field) == ("Counter", "name")


def test_arguments_for_a_spec_that_has_its_own_are_refused() -> None:
    with pytest.raises(InvalidChildSpec) as refused:
        child_spec(child_spec(Counter, 1), 2)
    assert refused.value.field == "args"


@pytest.mark.parametrize("child", [Plain, start, 5, None])
def test_a_value_that_cannot_be_a_child_is_refused_with_advice(child: Any) -> None:
    with pytest.raises(InvalidChildSpec, match="process_spec") as caught:
        child_spec(child)
    assert caught.value.value is child


def test_supervisors_are_described_as_supervisors() -> None:
    spec = Supervisor.child_spec([Counter], strategy="one_for_all")
    assert (spec.id, spec.type, spec.shutdown) == ("Supervisor", "supervisor", math.inf)
    pool = DynamicSupervisor.child_spec(name="pool", max_children=3)
    assert (pool.id, pool.type, pool.shutdown) == ("pool", "supervisor", math.inf)
    assert child_spec(DynamicSupervisor).id == "DynamicSupervisor"


def test_an_invalid_supervisor_is_refused_by_child_spec() -> None:
    with pytest.raises(InvalidChildSpec, match="two children of one supervisor"):
        Supervisor.child_spec([Counter, Counter])
    with pytest.raises(ValueError, match="strategy"):
        Supervisor.child_spec([Counter], strategy="one")
    with pytest.raises(ValueError, match="max_children"):
        DynamicSupervisor.child_spec(max_children=-1)


async def test_a_plain_async_function_can_be_a_child(runtime: Runtime) -> None:
    got: list[object] = []

    async def collect(first: object) -> None:
        got.append(first)
        got.append(await receive())

    spec = process_spec(collect, "argument", restart="temporary")
    assert spec.id == "collect"
    supervisor = await Supervisor.start([spec])
    [info] = await Supervisor.which_children(supervisor)
    assert isinstance(info.pid, Pid)
    assert runtime.process_info(info.pid)["parent"] is supervisor  # type: ignore[index]
    send(info.pid, "message")
    await wait_exit(info.pid)
    assert got == ["argument", "message"]


class Vault(GenServer[None]):
    pass


def test_an_object_in_place_of_its_class_is_refused_with_the_class_to_write() -> None:
    with pytest.raises(InvalidChildSpec) as refused:
        child_spec(Vault())
    assert "each start of a child makes a new object; write the class, Vault" in str(refused.value)
