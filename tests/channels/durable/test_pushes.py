"""Pushes with a key: the first answer, one run of the handler, and the state after a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from actors import Runtime, Stop, current_runtime, kill
from channels import (
    Binary,
    Endpoint,
    PushReply,
    Socket,
    handle_in,
    reply_to,
)
from channels.durable import DurableChannel, History, MemoryStorage, StorageError
from channels.telemetry import HISTORY_ANSWER_REFUSED, HISTORY_ANSWERS_FORGOTTEN
from channels.testing import ChannelTest, TestChannel, open_channel_test

TOPIC = "document:1"


class Desk:
    """A record of the runs of the handlers, and the instructions for their next run."""

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self.crashes = 0
        self.gate = trio.Event()
        self.gate.set()


def desk_endpoint(history: History, desk: Desk) -> Endpoint:
    class Document(DurableChannel):
        @handle_in("edit")
        async def edit(self, payload: Any) -> PushReply:
            desk.runs.append(payload)
            position = await self.append("edited", payload)
            await desk.gate.wait()
            if desk.crashes:
                desk.crashes -= 1
                raise RuntimeError("crashed after the append")
            return PushReply({"position": position, "run": len(desk.runs)})

        @handle_in("say")
        async def say(self, payload: Any) -> PushReply:
            desk.runs.append(payload)
            self.broadcast("said", payload)
            return PushReply({"run": len(desk.runs)})

        @handle_in("answer")
        async def answer(self, payload: Any) -> Any:
            desk.runs.append(payload)
            match payload["kind"]:
                case "binary":
                    return PushReply(Binary(b"\x00%d" % len(desk.runs)), status="error")
                case "none":
                    return None
                case "stop":
                    return Stop(reply=PushReply({"run": len(desk.runs)}))
                case "later":
                    reply_to(self.socket_ref(), PushReply({"run": len(desk.runs)}))
                case "wrong":
                    return [len(desk.runs)]
            return None

    Document.history = history

    class UserSocket(Socket):
        channels = {"document:*": Document}

        async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
            self.assigns["user"] = params.get("user")

        def id(self) -> str | None:
            user = self.assigns["user"]
            return None if user is None else f"user:{user}"

    return Endpoint(sockets={"/socket": UserSocket}, histories=[history])


@pytest.fixture
def desk() -> Desk:
    return Desk()


@asynccontextmanager
async def joined(
    desk: Desk, history: History | None = None
) -> AsyncIterator[tuple[ChannelTest, TestChannel]]:
    async with open_channel_test(desk_endpoint(history or History(), desk)) as case:
        yield case, await join(case)


async def join(case: ChannelTest, user: str | None = None) -> TestChannel:
    client = await case.connect("/socket", params={} if user is None else {"user": user})
    answer, channel = await client.join(TOPIC, {})
    assert answer.status == "ok"
    return channel


def edit(text: str = "a", key: Any = "k") -> dict[str, Any]:
    return {"text": text, "_key": key}


async def ask(channel: TestChannel, payload: Any, event: str = "edit", status: str = "ok") -> Any:
    return await channel.assert_reply(channel.push(event, payload), status)


def heard(runtime: Runtime, event: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    runtime.telemetry.attach(event, lambda _, counts, about: found.append({**counts, **about}))
    return found


# The first answer


async def test_a_repeated_push_gets_the_first_answer_and_its_handler_runs_once(desk: Desk) -> None:
    history = History()
    async with joined(desk, history) as (_, channel):
        first = await ask(channel, edit())
        assert await ask(channel, edit()) == first
        assert desk.runs == [{"text": "a"}]
        assert (await ask(channel, edit(key="other")))["run"] == 2
        figures = history.statistics()
        assert (figures["answered"], figures["repeated"], figures["handling"]) == (2, 1, 0)


async def test_a_push_without_a_key_is_handled_each_time(desk: Desk) -> None:
    async with joined(desk) as (_, channel):
        for run in (1, 2):
            assert (await ask(channel, {"text": "a"}))["run"] == run


async def test_a_push_is_repeated_after_a_rejoin_and_after_a_crash_of_the_channel(
    desk: Desk,
) -> None:
    async with joined(desk) as (case, channel):
        first = await ask(channel, edit())
        kill(*case.endpoint.pubsub.subscribers(TOPIC))
        again = await join(case)
        assert await ask(again, edit()) == first


@pytest.mark.parametrize("kind", ["binary", "stop"])
async def test_every_kind_of_reply_is_remembered(desk: Desk, kind: str) -> None:
    status = "error" if kind == "binary" else "ok"
    async with joined(desk) as (case, channel):
        first = await ask(channel, {"kind": kind, "_key": "k"}, "answer", status)
        again = await join(case)
        assert await ask(again, {"kind": kind, "_key": "k"}, "answer", status) == first
        assert len(desk.runs) == 1


async def test_a_handler_that_gives_no_reply_runs_once_too(desk: Desk) -> None:
    async with joined(desk) as (_, channel):
        for _ in range(2):
            ref = channel.push("answer", {"kind": "none", "_key": "k"})
        await channel.refute_reply(ref)
        assert len(desk.runs) == 1


async def test_a_reply_that_comes_later_is_not_remembered(desk: Desk) -> None:
    async with joined(desk) as (_, channel):
        for run in (1, 2):
            answer = await ask(channel, {"kind": "later", "_key": "k"}, "answer")
            assert answer == {"run": run}


async def test_a_wrong_result_is_not_remembered(desk: Desk) -> None:
    async with joined(desk) as (case, channel):
        channel.push("answer", {"kind": "wrong", "_key": "k"})
        await channel.assert_push("phx_error")
        again = await join(case)
        again.push("answer", {"kind": "wrong", "_key": "k"})
        await again.assert_push("phx_error")
        assert len(desk.runs) == 2


# Keys


@pytest.mark.parametrize("key", [None, "", 7, "x" * 129, ["k"]])
async def test_a_key_that_is_none_is_refused(desk: Desk, key: Any) -> None:
    async with joined(desk) as (_, channel):
        answer = await ask(channel, edit(key=key), status="error")
        assert answer == {"reason": "_key must be text of 1 to 128 characters"}
        assert desk.runs == []


async def test_another_push_with_the_same_key_is_refused(desk: Desk) -> None:
    async with joined(desk) as (_, channel):
        await ask(channel, edit("a"))
        for payload, event in ((edit("b"), "edit"), (edit("a"), "say")):
            answer = await ask(channel, payload, event, "error")
            assert answer == {"reason": "another push had this _key"}
        assert len(desk.runs) == 1


async def test_a_user_does_not_get_the_answer_to_another_user(desk: Desk) -> None:
    async with joined(desk) as (case, _):
        users = ("ann", "bob", None, "ann")
        runs = [(await ask(await join(case, user), edit()))["run"] for user in users]
        assert runs == [1, 2, 3, 1]


async def test_a_key_belongs_to_one_topic(desk: Desk) -> None:
    async with joined(desk) as (case, channel):
        await ask(channel, edit())
        client = await case.connect("/socket")
        _, other = await client.join("document:2", {})
        assert (await ask(other, edit()))["run"] == 2


# Crashes


async def test_a_push_whose_handler_crashed_runs_again_and_appends_once(desk: Desk) -> None:
    history = History()
    desk.crashes = 1
    async with joined(desk, history) as (case, channel):
        channel.push("edit", edit())
        await channel.assert_push("phx_error")
        again = await join(case)
        answer = await ask(again, edit())
        assert (answer["run"], answer["position"][-2:]) == (2, ":1")
        assert history.statistics()["messages"] == 1


async def test_a_repeat_waits_for_the_handler_of_another_channel(desk: Desk) -> None:
    desk.gate = trio.Event()
    async with joined(desk) as (case, channel):
        ref = channel.push("edit", edit())
        await trio.testing.wait_all_tasks_blocked()
        again = await join(case)
        repeated = again.push("edit", edit())
        await trio.testing.wait_all_tasks_blocked()
        assert len(desk.runs) == 1
        desk.gate.set()
        first = await channel.assert_reply(ref, "ok")
        assert await again.assert_reply(repeated, "ok") == first


async def test_a_repeat_that_waits_is_handled_if_the_first_channel_is_killed(desk: Desk) -> None:
    desk.gate = trio.Event()
    history = History()
    async with joined(desk, history) as (case, channel):
        channel.push("edit", edit())
        await trio.testing.wait_all_tasks_blocked()
        (pid,) = case.endpoint.pubsub.subscribers(TOPIC)
        again = await join(case)
        repeated = again.push("edit", edit())
        await trio.testing.wait_all_tasks_blocked()
        kill(pid)
        desk.gate.set()
        assert (await again.assert_reply(repeated, "ok"))["run"] == 2
        assert history.statistics()["messages"] == 1
        assert history.statistics()["handling"] == 0


async def test_of_several_repeats_that_wait_one_is_handled_and_the_others_get_its_answer(
    desk: Desk,
) -> None:
    desk.gate = trio.Event()
    history = History()
    async with joined(desk, history) as (case, channel):
        channel.push("edit", edit())
        await trio.testing.wait_all_tasks_blocked()
        (pid,) = case.endpoint.pubsub.subscribers(TOPIC)
        others = [await join(case) for _ in range(2)]
        refs = [other.push("edit", edit()) for other in others]
        await trio.testing.wait_all_tasks_blocked()
        kill(pid)
        desk.gate.set()
        answers = [
            await other.assert_reply(ref, "ok") for other, ref in zip(others, refs, strict=True)
        ]
        assert [answer["run"] for answer in answers] == [2, 2]
        assert len(desk.runs) == 2
        assert history.statistics()["handling"] == 0


class Failing(MemoryStorage):
    """A storage that fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: Iterator[bool] = iter(())

    async def append(self, *args: Any, **options: Any) -> Any:
        if next(self.failures, False):
            raise StorageError("failing", "the disk is full")
        return await super().append(*args, **options)


@pytest.mark.parametrize("failures", [[True], [False, True]])
async def test_an_answer_is_not_kept_without_the_messages_of_its_handler(
    desk: Desk, failures: list[bool]
) -> None:
    storage = Failing()
    # In batches of one, the message fails alone. In batches of two, it fails together with the answer.
    history = History(storage, max_batch=len(failures))
    async with joined(desk, history) as (case, channel):
        storage.failures = iter(failures)
        if len(failures) == 2:
            await history.append(TOPIC, "edited", {})
        channel.push("say", edit())
        await channel.assert_push("phx_error")
        again = await join(case)
        assert await ask(again, edit(), "say") == {"run": 2}
        assert (await again.assert_push("said"))["text"] == "a"
        await again.refute_push("said")


async def test_a_message_and_the_answer_are_one_batch_if_the_handler_does_not_wait(
    desk: Desk,
) -> None:
    batches: list[tuple[int, int]] = []

    class Counting(MemoryStorage):
        async def append(self, batch: Any, *, now: float, answers: Any = ()) -> Any:
            batches.append((len(batch), len(answers)))
            return await super().append(batch, now=now, answers=answers)

    async with joined(desk, History(Counting())) as (_, channel):
        await ask(channel, edit(), "say")
        assert batches == [(1, 1)]


# Bounds


async def test_an_answer_beyond_the_bound_is_given_and_not_remembered(desk: Desk) -> None:
    history = History(max_answer_bytes=50)
    async with joined(desk, history) as (_, channel):
        events = heard(current_runtime(), HISTORY_ANSWER_REFUSED)
        for run in (1, 2):
            assert await ask(channel, edit(), "say") == {"run": run}
        assert events[0]["limit"] == 50
        assert history.statistics()["refused"] == 2


async def test_forgotten_keys_are_counted_and_reported(desk: Desk) -> None:
    history = History(max_answers=2)
    async with joined(desk, history) as (_, channel):
        events = heard(current_runtime(), HISTORY_ANSWERS_FORGOTTEN)
        await ask(channel, edit(key="k"))
        await ask(channel, edit(key="l"))
        assert (await ask(channel, edit(key="k")))["run"] == 3
        assert history.statistics()["forgotten"] > 0
        assert events[0]["keys"] == 1
