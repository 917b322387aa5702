"""Entities on one node: calls, casts, starts, stops and crashes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from actors import (
    KILLED,
    NOPROC,
    NORMAL,
    CallingSelf,
    CallTimeout,
    Crash,
    Down,
    ExitReason,
    Fail,
    Ignore,
    InvalidArgument,
    InvalidOption,
    Reply,
    Runtime,
    Sender,
    Within,
    as_process,
    call,
    cast,
    current_pid,
    demonitor,
    kill,
    monitor,
    receive,
    send,
    send_after,
    spawn,
    stop,
)
from channels.durable import FenceRefused
from channels.entities.entity import Entity
from channels.entities.errors import (
    EntityBusy,
    EntityCrashed,
    EntityError,
    EntityLost,
    EntityStartFailed,
    EntityTimeout,
    EntityUnavailable,
    RequestRefused,
)
from channels.entities.supervisor import EntitySupervisor
from channels.telemetry import (
    ENTITY_BEGAN,
    ENTITY_CRASHED,
    ENTITY_DROPPED,
    ENTITY_ENDED,
    ENTITY_LEASE_LOST,
    ENTITY_REFUSED,
    ENTITY_STARTED,
)
from supervision import Backoff
from tests.channels.entities.nodes import Counter, alone, listen
from tests.channels.support import settle

VIRTUAL_CLOCK = True


async def test_the_first_message_starts_the_entity_of_a_key(runtime: Runtime) -> None:
    node = await alone()
    assert await node.entities.where("a") is None
    assert await call(node.via("a"), "add") == 1
    assert await call(node.via("a"), "add") == 2
    assert await call(node.via("b"), "add") == 1
    place = await node.entities.where("a")
    assert place is not None
    assert place.node == "local"
    cast(node.via("a"), 1)
    send(node.via("a"), 2)
    assert await call(node.via("a"), "heard") == [["cast", 1], ["send", 2]]


async def test_each_start_has_a_greater_fence(runtime: Runtime) -> None:
    node = await alone()
    fences = []
    for number in range(4):
        fences.append((await call(node.via("a"), "who"))[1])
        if number % 2:
            await node.entities.stop("a")
        else:
            with pytest.raises(EntityCrashed):
                await call(node.via("a"), "crash")
    assert fences == sorted(set(fences))


async def test_an_idle_entity_stops_and_the_next_message_starts_it_again(runtime: Runtime) -> None:
    node = await alone(idle_timeout=10)
    started, ended = listen(runtime, ENTITY_STARTED), listen(runtime, ENTITY_ENDED)
    assert await call(node.via("a"), "add") == 1
    await trio.sleep(9)
    assert await call(node.via("a"), "add") == 2
    await trio.sleep(15)
    assert [each["reason"] for each in ended] == [NORMAL]
    assert await node.entities.where("a") is None
    assert node.entities.statistics()["keys"] == 0
    assert await call(node.via("a"), "add") == 1
    assert len(started) == 2


class Slow(Counter):
    """An entity whose end takes time."""

    async def terminate(self, reason: ExitReason) -> None:
        await trio.sleep(1)


async def test_messages_during_an_idle_stop_wait_for_the_next_start(runtime: Runtime) -> None:
    node = await alone(Slow, idle_timeout=1)
    for number in range(40):
        # The calls come at other moments of the stop.
        assert await call(node.via("a"), "add") >= 1
        await trio.sleep(0.9 + number * 0.05)
    counts = node.entities.statistics()
    assert 1 < counts["idle_stops"] < 40


class Waiting(Counter):
    """An entity that waits for something else than messages."""

    async def handle_cast(self, message: Any) -> None:
        if message == "timer":
            send_after(current_pid(), "tick", 100)
        else:
            monitor(spawn(trio.sleep, 100))


@pytest.mark.parametrize("cause", ["timer", "monitor", "call"])
async def test_an_entity_that_waits_for_something_is_not_idle(runtime: Runtime, cause: str) -> None:
    node = await alone(Waiting, idle_timeout=5)
    async with trio.open_nursery() as nursery:
        if cause == "call":
            nursery.start_soon(partial(call, node.via("a"), "keep", timeout=100))
            await trio.sleep(80)
            assert await node.entities.where("a") is not None
            nursery.cancel_scope.cancel()
            return
        cast(node.via("a"), cause)
        await trio.sleep(90)
        assert await node.entities.where("a") is not None
        await trio.sleep(30)
        assert await node.entities.where("a") is None


async def test_only_the_current_request_of_a_crash_may_have_run(runtime: Runtime) -> None:
    node = await alone()
    results: list[Any] = []

    async def ask(request: Any) -> None:
        try:
            results.append([request, await call(node.via("a"), request)])
        except EntityCrashed as error:
            results.append([request, type(error.reason), error.may_have_run])

    async with trio.open_nursery() as nursery:
        for request in (["sleep", 1], "crash", "first", "second", "heard"):
            nursery.start_soon(ask, request)
            await settle()
            if request in ("first", "second"):
                cast(node.via("a"), request)
    # The requests after the crash ran in the next process, in order.
    order = [["cast", "first"], ["cast", "second"]]
    assert sorted(results, key=repr) == [
        ["crash", Crash, True],
        ["first", "first"],
        ["heard", order],
        ["second", "second"],
        [["sleep", 1], 1],
    ]


async def test_after_too_many_crashes_only_this_key_waits(runtime: Runtime) -> None:
    node = await alone(max_restarts=2, max_seconds=60, backoff=Backoff(10, 100))
    crashed = listen(runtime, ENTITY_CRASHED)
    for _ in range(3):
        with pytest.raises(EntityCrashed):
            await call(node.via("a"), "crash")
    with pytest.raises(EntityStartFailed, match="the next start is possible in 10 s") as failed:
        await call(node.via("a"), "add")
    assert (failed.value.retry_after, failed.value.may_have_run) == (10, False)
    assert await call(node.via("b"), "add") == 1
    assert await node.entities.where("a") is None
    await trio.sleep(10.1)
    assert await call(node.via("a"), "add") == 1
    for _ in range(3):
        with pytest.raises(EntityCrashed):
            await call(node.via("a"), "crash")
    # A new call does not reset the waits.
    with pytest.raises(EntityStartFailed) as failed:
        await call(node.via("a"), "add")
    assert failed.value.retry_after == 20
    assert len(crashed) == 6
    await trio.sleep(160)
    assert node.entities.statistics()["keys"] == 1


class Unstartable(Counter):
    """An entity that does not start."""

    async def init(self, key: str, state: Any = None) -> Any:
        match key:
            case "crash":
                raise ValueError("no such auction")
            case "fail":
                return Fail("no such auction")
            case "ignore":
                return Ignore()
            case "slow":
                await trio.sleep(60)
        return None


@pytest.mark.parametrize("key", ["crash", "fail", "ignore"])
async def test_a_failed_start_ends_the_requests_that_wait(runtime: Runtime, key: str) -> None:
    node = await alone(Unstartable)
    for _ in range(3):
        with pytest.raises(EntityStartFailed) as failed:
            await call(node.via(key), "add")
        assert not failed.value.may_have_run
    await trio.sleep(3)
    assert node.entities.statistics()["keys"] == 0


async def test_a_request_that_the_entity_has_not_begun_never_runs_after_its_timeout(
    runtime: Runtime,
) -> None:
    node = await alone()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, node.via("a"), ["sleep", 3])
        await settle()
        with pytest.raises(EntityTimeout) as late:
            await call(node.via("a"), "add", timeout=1)
        assert not late.value.may_have_run
    assert await call(node.via("a"), "add") == 2
    with pytest.raises(CallTimeout) as begun:
        await call(node.via("a"), ["sleep", 3], timeout=1)
    assert begun.value.may_have_run
    assert await call(node.via("a"), "add") == 4


async def test_a_request_that_waits_for_a_start_ends_at_its_timeout(runtime: Runtime) -> None:
    node = await alone(Unstartable)
    with pytest.raises(EntityTimeout):
        await call(node.via("slow"), "add", timeout=1)


class Bid(msgspec.Struct, tag=True):
    amount: int


class Look(msgspec.Struct, tag=True):
    pass


class Auction(Entity):
    requests = Bid | Look
    answers = Bid

    async def handle_call(self, request: Bid | Look, sender: Sender) -> Reply:
        match request:
            case Bid(amount):
                return Reply(Bid(amount + 1))
            case _:
                return Reply("nothing")


@pytest.mark.parametrize("value", [object(), (1, 2), {1: 2}, Look(), float("nan"), "\ud800"])
async def test_a_value_that_is_not_json_cannot_travel(runtime: Runtime, value: Any) -> None:
    node = await alone()
    for refused in (partial(cast, node.via("a")), partial(send, node.via("a"))):
        with pytest.raises(RequestRefused, match="`requests` of the entity"):
            refused(value)
    with pytest.raises(RequestRefused) as error:
        await call(node.via("a"), value)
    assert not error.value.may_have_run
    assert await node.entities.where("a") is None


async def test_declared_types_travel_and_other_values_do_not(runtime: Runtime) -> None:
    node = await alone(Auction)
    assert await call(node.via("a"), Bid(1)) == Bid(2)
    for value in (1, Bid("many")):  # type: ignore[arg-type]
        with pytest.raises(RequestRefused):
            await call(node.via("a"), value)


async def test_an_answer_that_cannot_travel_crashes_the_entity(runtime: Runtime) -> None:
    node, other = await alone(Auction), await alone()
    with pytest.raises(EntityCrashed) as crashed:
        await call(node.via("a"), Look())
    problem = "Auction.handle_call returned 'nothing' as an answer, which cannot travel"
    assert problem in str(crashed.value)
    with pytest.raises(EntityCrashed):
        await call(other.via("a"), "object")


async def test_a_limit_refuses_what_is_above_it(runtime: Runtime) -> None:
    node = await alone(max_entities=2, max_waiting=3, max_request_bytes=100)
    refused = listen(runtime, ENTITY_REFUSED)
    for key in ("a", "b"):
        await node.entities.start(key)
    with pytest.raises(EntityBusy, match="max_entities is 2"):
        await call(node.via("c"), "add")
    with pytest.raises(RequestRefused, match="max_request_bytes is 100"):
        await call(node.via("a"), "x" * 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, node.via("a"), ["sleep", 1])
        await settle()
        for _ in range(3):
            nursery.start_soon(call, node.via("a"), "add")
        await settle()
        with pytest.raises(EntityBusy, match="max_waiting is 3") as busy:
            await call(node.via("a"), "add")
        cast(node.via("a"), "dropped")
    assert not busy.value.may_have_run
    assert [each["option"] for each in refused] == [
        "max_entities",
        "max_request_bytes",
        "max_waiting",
        "max_waiting",
    ]
    counts = node.entities.statistics()
    assert (counts["refused_max_waiting"], counts["dropped"]) == (2, 1)
    assert await call(node.via("a"), "add") == 5


async def test_start_and_stop_act_on_one_key(runtime: Runtime) -> None:
    node = await alone()
    await node.entities.stop("a")
    await node.entities.start("a")
    await node.entities.start("a")
    place = await node.entities.where("a")
    assert place is not None
    await call(node.via("a"), "add")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, node.via("a"), ["sleep", 1])
        await settle()
        nursery.start_soon(node.entities.stop, "a")
        await settle()
        # This comes after the stop.
        assert await call(node.via("a"), "add") == 1


async def test_monitors_report_the_end_of_the_process(runtime: Runtime) -> None:
    node = await alone()
    async with as_process():
        idle = monitor(node.via("a"))
        assert await receive() == Down(idle, None, NOPROC, node.via("a"))
        await node.entities.start("a")
        gone = monitor(node.via("a"))
        ref = monitor(node.via("a"))
        assert demonitor(gone)
        kill(await node.pid_of("a"))
        assert await receive() == Down(ref, None, KILLED, node.via("a"))
        with pytest.raises(trio.TooSlowError):
            await receive(timeout=100)
    assert await call(node.via("a"), "add") == 1


class Caller(Entity):
    """An entity that calls the entities in its request, one after the other."""

    way: EntitySupervisor

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        (following, *rest) = request or [None]
        if following is None:
            return Reply([self.key])
        try:
            return Reply([self.key, *await call(Caller.way.via(following), rest)])
        except CallingSelf as error:
            return Reply([self.key, following, error.may_have_run])


async def test_a_circle_of_calls_is_an_error_at_once(runtime: Runtime) -> None:
    node = await alone(Caller)
    Caller.way = node.entities
    assert await call(node.via("a"), ["b", "c"]) == ["a", "b", "c"]
    assert await call(node.via("a"), ["a"]) == ["a", "a", False]
    assert await call(node.via("a"), ["b", "c", "a"]) == ["a", "b", "c", "a", False]
    assert trio.current_time() < 1


class Curious(Caller):
    """An entity that looks itself up."""

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        place = await Caller.way.where(self.key)
        assert place is not None
        assert place.pid is current_pid()
        return Reply("found")


async def test_an_entity_may_look_itself_up(runtime: Runtime) -> None:
    node = await alone(Curious)
    Caller.way = node.entities
    assert await call(node.via("a"), None) == "found"


async def test_a_call_needs_a_finite_time_limit(runtime: Runtime) -> None:
    node = await alone()
    with pytest.raises(InvalidOption, match="a finite number of seconds"):
        await call(node.via("a"), "add", timeout=math.inf)


@pytest.mark.parametrize("key", ["", "x" * 256, 42, None])
async def test_a_key_is_text_of_bounded_length(runtime: Runtime, key: Any) -> None:
    node = await alone()
    with pytest.raises(InvalidArgument, match="1 to 255 characters"):
        node.via(key)


async def test_without_its_supervisor_an_entity_is_unavailable(runtime: Runtime) -> None:
    entities = EntitySupervisor("counters", Counter)
    with pytest.raises(EntityUnavailable, match=r"Endpoint\(children="):
        await call(entities.via("a"), "add")
    node = await alone()
    await call(node.via("a"), "add")
    await node.stop()
    with pytest.raises(EntityUnavailable):
        await call(node.via("a"), "add")
    assert node.entities.statistics() == {}
    await node.start()
    assert await call(node.via("a"), "add") == 1


# The lease


async def test_a_lost_lease_stops_all_entities_and_a_new_session_begins(runtime: Runtime) -> None:
    node = await alone()
    lost, fences = listen(runtime, ENTITY_LEASE_LOST), []
    errors: list[EntityError] = []

    async def ask(request: Any) -> None:
        try:
            await call(node.via("a"), request)
        except EntityError as error:
            errors.append(error)

    fences.append((await call(node.via("a"), "who"))[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, ["sleep", 3])
        await settle()
        nursery.start_soon(ask, "add")
        await settle()
        node.router.arbiter.lease.lose("a test")
        await trio.sleep(0.1)
    assert [each["problem"] for each in lost] == ["a test"]
    # The first request had begun, and the second had not.
    outcomes = {type(each): each.may_have_run for each in errors}
    assert outcomes == {EntityLost: True, EntityUnavailable: False}
    fences.append((await call(node.via("a"), "who"))[1])
    assert fences == sorted(set(fences))
    assert await call(node.via("a"), "add") == 1


async def test_no_message_is_handled_after_a_pause_beyond_the_lease(runtime: Runtime) -> None:
    node = await alone()
    assert await call(node.via("a"), "add") == 1
    lease = node.router.arbiter.lease
    began = listen(runtime, ENTITY_BEGAN)
    # The message is in the mailbox when the pause begins, and nobody has noticed the end of the lease when it ends.
    cast(node.via("a"), "too late")
    lease.until = -math.inf
    assert lease.problem is None
    await trio.sleep(0.1)
    assert began == []
    assert await call(node.via("a"), "heard") == []


async def test_the_lease_is_checked_before_each_waiting_call(runtime: Runtime) -> None:
    node = await alone()
    lease, began = node.router.lease, listen(runtime, ENTITY_BEGAN)
    results: dict[str, Any] = {}

    async def ask(request: Any) -> None:
        try:
            results[str(request)] = await call(node.via("a"), request)
        except EntityError as error:
            results[str(request)] = type(error), error.may_have_run

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, ["sleep", 1])
        await settle()
        nursery.start_soon(ask, "add")
        await settle()
        # Nobody notices this before the callback has ended.
        lease.until = -math.inf
    assert results == {"['sleep', 1]": 1, "add": (EntityUnavailable, False)}
    assert [each["request"].content for each in began if each["request"]] == [["sleep", 1]]


# Alarms


async def test_an_alarm_wakes_an_entity_that_has_stopped(runtime: Runtime) -> None:
    node = await alone(Alarmed, idle_timeout=10)
    cast(node.via("a"), runtime.now() + 100)
    await trio.sleep(50)
    assert await node.entities.where("a") is None
    await trio.sleep(52)
    heard = await call(node.via("a"), "heard")
    assert [kind for kind, _ in heard] == ["alarm"]
    await trio.sleep(120)
    assert await call(node.via("a"), "heard") == []


async def test_an_alarm_is_cancelled_or_replaced(runtime: Runtime) -> None:
    node = await alone(Alarmed)
    cast(node.via("a"), runtime.now() + 5)
    cast(node.via("a"), None)
    cast(node.via("b"), runtime.now() + 5)
    cast(node.via("b"), runtime.now() + 20)
    await trio.sleep(10)
    assert await call(node.via("a"), "heard") == await call(node.via("b"), "heard") == []
    await trio.sleep(15)
    assert len(await call(node.via("b"), "heard")) == 1


class Alarmed(Counter):
    """An entity that sets its alarm as a cast demands."""

    async def handle_cast(self, message: Any) -> None:
        await self.set_alarm(message)


class Asked(Counter):
    """An entity that sets its alarm as a call demands, and answers with the error."""

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        del sender
        try:
            await self.set_alarm(request)
        except InvalidOption as error:
            return Reply(str(error))
        return Reply("set")


@pytest.mark.parametrize("at", [120, -1.0, "soon"])
async def test_an_alarm_needs_a_time_of_day_and_no_seconds_from_now(
    at: Any, runtime: Runtime
) -> None:
    node = await alone(Asked)
    assert "such as current_runtime().now() + 120" in await call(node.via("a"), at)
    assert await call(node.via("a"), runtime.now()) == "set"


class Failing(Alarmed):
    """An entity that fails at its first alarm."""

    failed = False

    async def handle_alarm(self, at: float) -> None:
        if not Failing.failed:
            Failing.failed = True
            raise ValueError("the first alarm fails")
        await super().handle_alarm(at)


async def test_an_alarm_comes_again_until_it_was_handled(runtime: Runtime) -> None:
    node = await alone(Failing)
    cast(node.via("a"), runtime.now() + 5)
    await trio.sleep(30)
    assert len(await call(node.via("a"), "heard")) == 1


# Fences


class Claiming(Counter):
    """An entity whose storage has a greater fence."""

    async def init(self, key: str, state: Any = None) -> None:
        await super().init(key, state)
        if self.fence < CLAIMED:
            raise FenceRefused("topic", self.fence, CLAIMED - 1, verb="claim")


CLAIMED = 2**53 - 1000


async def test_a_refused_claim_gets_a_greater_fence(runtime: Runtime) -> None:
    node = await alone(Claiming)
    assert await call(node.via("a"), "who") == ["a", CLAIMED]


async def test_a_timer_sends_to_an_entity_and_drops_what_cannot_travel(runtime: Runtime) -> None:
    node = await alone()
    for message in ("first", object(), "second"):
        send_after(node.via("a"), message, 1)
    await trio.sleep(2)
    assert await call(node.via("a"), "heard") == [["send", "first"], ["send", "second"]]
    assert runtime.statistics()["dead_letters"] == 1


class Timing(Counter):
    """An entity that waits with `Within`."""

    async def handle_cast(self, message: Any) -> Any:
        return Within(100)


async def test_an_entity_that_waits_for_a_timeout_is_not_idle(runtime: Runtime) -> None:
    node = await alone(Timing, idle_timeout=10)
    cast(node.via("a"), "wait")
    await trio.sleep(95)
    assert await node.entities.where("a") is not None
    await trio.sleep(30)
    assert await node.entities.where("a") is None


async def test_a_crash_of_a_process_of_the_router_loses_no_later_request(runtime: Runtime) -> None:
    node = await alone(idle_timeout=10)
    fence = (await call(node.via("a"), "who"))[1]
    for name in ("server", "keeper", "mover", "clock", "locator"):
        kill(await node.child(name))
        await settle()
        await trio.sleep(6)
        assert (await call(node.via("a"), "who"))[1] == fence
    for name in ("entities", "session"):
        kill(await node.child(name))
        await trio.sleep(6)
        following = (await call(node.via("a"), "who"))[1]
        assert following > fence
        fence = following


async def test_a_node_that_stops_reports_each_cast_that_waits(runtime: Runtime) -> None:
    a = await alone()
    dropped = listen(runtime, ENTITY_DROPPED)
    assert await call(a.via("k"), "add") == 1

    async def keep_busy() -> None:
        with pytest.raises(EntityError):
            await call(a.via("k"), ["sleep", 9.0], timeout=10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_busy)
        await trio.sleep(0.1)
        for number in range(3):
            cast(a.via("k"), number)
        await stop(a.supervisor)
    assert len(dropped) == 3
