"""Calls get their own answers, or an error that says whether the server may have carried them out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import Runtime
from channels.pubsub.redis.caller import Caller, CallFailed
from channels.pubsub.redis.connection import Options
from channels.pubsub.redis.protocol import pack_command
from channels.pubsub.redis.server import RedisServer
from channels.pubsub.redis.server_errors import ServerError
from supervision import Backoff
from tests.channels.pubsub.redis.resp_server import RespServer


class Quiet:
    """Reports that nobody reads but the test."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def report(self, kind: str, numbers: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        if kind == "disconnected":
            self.problems.append(about["problem"])


class Introduced:
    """Takes the answers to the introduction, and finds a problem if the test wants one."""

    def __init__(self) -> None:
        self.answers: list[Sequence[Any]] = []
        self.problem: str | None = None

    def take(self, answers: Sequence[Any]) -> str | None:
        self.answers.append(answers)
        return self.problem


class Connected:
    """A caller, its server and its reports."""

    def __init__(self, nursery: trio.Nursery, max_calls: int) -> None:
        self.server = RespServer(nursery)
        self.reports = Quiet()
        self.introduced = Introduced()
        options = Options(
            server=RedisServer(
                "redis://db",
                connect=self.server.connect,
                backoff=Backoff(1.0, 1.0),
                ping_interval=100.0,
            ),
            client_name="ashtree",
            report=self.reports.report,
        )
        self.caller = Caller(
            options, [pack_command("PING", "first")], self.introduced.take, max_calls=max_calls
        )

    async def ask(self, *command: str, timeout: float = 5.0) -> Any:
        deadline = trio.current_time() + timeout
        return await self.caller.call(lambda: pack_command(*command), deadline=deadline)

    async def fails(self, *command: str, timeout: float = 5.0) -> CallFailed:
        with pytest.raises(CallFailed) as failed:
            await self.ask(*command, timeout=timeout)
        return failed.value


@asynccontextmanager
async def calling(*, up: bool = True, max_calls: int = 100) -> AsyncIterator[Connected]:
    async with trio.open_nursery() as nursery:
        connected = Connected(nursery, max_calls)
        connected.server.is_up = up
        nursery.start_soon(connected.caller.main)
        await wait_all_tasks_blocked()
        yield connected
        nursery.cancel_scope.cancel()


async def test_each_call_gets_its_own_answer(runtime: Runtime) -> None:
    async with calling() as connected:
        answers: dict[int, Any] = {}

        async def ask(number: int) -> None:
            answers[number] = await connected.ask("PING", str(number))

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(ask, number)
        assert answers == {number: b"%d" % number for number in range(300)}


async def test_an_error_of_the_server_is_an_answer(runtime: Runtime) -> None:
    async with calling() as connected:
        answer = await connected.ask("NONSENSE")
        assert isinstance(answer, ServerError)
        assert answer.code == "ERR"
        assert await connected.ask("PING") == b"PONG"


async def test_the_introduction_comes_first_on_each_connection(runtime: Runtime) -> None:
    async with calling() as connected:
        assert connected.introduced.answers == [[b"first"]]
        await connected.server.close_all()
        assert await connected.ask("PING") == b"PONG"
        assert connected.introduced.answers == [[b"first"], [b"first"]]
        received = [command[-1] for command in connected.server.received if command[1:]]
        assert received.count(b"first") == 2


async def test_a_server_that_cannot_be_used_is_given_up_and_tried_again(runtime: Runtime) -> None:
    async with calling() as connected:
        connected.introduced.problem = "it is another server"
        await connected.server.close_all()
        error = await connected.fails("PING")
        assert (error.problem, error.was_sent) == (
            "the server is away: it is another server",
            False,
        )
        assert connected.reports.problems.count("it is another server") > 1
        connected.introduced.problem = None
        assert await connected.ask("PING") == b"PONG"


async def test_a_call_waits_for_the_connection_until_its_deadline(runtime: Runtime) -> None:
    async with calling(up=False) as connected:
        error = await connected.fails("PING", timeout=3.0)
        assert not error.was_sent
        assert error.problem == "the server is away: the system answered: Connection refused"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connected.ask, "PING")
            await wait_all_tasks_blocked()
            connected.server.start()


async def test_a_call_that_is_lost_with_its_connection_may_have_been_carried_out(
    runtime: Runtime,
) -> None:
    async with calling() as connected:
        connected.server.pause()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                error = await connected.fails("PING")
                assert error.was_sent
                assert error.problem.startswith("the connection was lost: ")

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            await connected.server.close_all()
        connected.server.resume()
        assert await connected.ask("PING") == b"PONG"


async def test_a_late_answer_goes_to_no_other_call(runtime: Runtime) -> None:
    async with calling() as connected:
        connected.server.pause()
        error = await connected.fails("PING", "late", timeout=1.0)
        assert (error.problem, error.was_sent) == ("the server did not answer in time", True)
        connected.server.resume()
        assert await connected.ask("PING", "next") == b"next"


async def test_calls_beyond_the_bound_wait_for_their_turn(runtime: Runtime) -> None:
    async with calling(max_calls=2) as connected:
        connected.server.pause()
        before = len(connected.server.received)
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await connected.ask("PING", "x"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            error = await connected.fails("PING", timeout=1.0)
            assert error.problem == "too many other commands waited for their answers"
            assert not error.was_sent
            connected.server.resume()
        assert answers == [b"x"] * 5
        assert len(connected.server.received) == before + 5


async def test_late_answers_count_for_the_bound_until_they_come(runtime: Runtime) -> None:
    async with calling(max_calls=1) as connected:
        connected.server.pause()
        assert (await connected.fails("PING", timeout=1.0)).was_sent
        assert not (await connected.fails("PING", timeout=1.0)).was_sent
        connected.server.resume()
        assert await connected.ask("PING") == b"PONG"


async def test_a_cancelled_call_that_was_not_sent_is_not_sent_later(runtime: Runtime) -> None:
    async with calling() as connected:
        with trio.CancelScope() as scope:
            scope.cancel()
            await connected.ask("PING", "cancelled")
        assert await connected.ask("PING") == b"PONG"
        assert [b"PING", b"cancelled"] not in connected.server.received
