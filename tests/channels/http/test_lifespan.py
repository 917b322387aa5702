"""The lifespan of a mounted application: started first, shut down last, even if it fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from channels.http.lifespan import ApplicationStartError, Lifespan
from channels.transports.asgi_stream import ASGIApplication


class Run:
    """One running lifespan, with its events so far."""

    def __init__(self, app: ASGIApplication) -> None:
        self.events: list[str] = []
        self.state: dict[str, Any] = {}
        self.scope = trio.CancelScope()
        self.lifespan = Lifespan(app, self.state, startup_timeout=60, shutdown_timeout=5)

    async def main(self) -> None:
        with self.scope:
            await self.lifespan.main(lambda: self.events.append("ready"))


def polite(events: list[str]) -> ASGIApplication:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        assert await receive() == {"type": "lifespan.startup"}
        events.append("starting")
        await trio.sleep(1)
        scope["state"]["database"] = "open"
        await send({"type": "lifespan.startup.complete"})
        assert await receive() == {"type": "lifespan.shutdown"}
        events.append("stopping")
        await trio.sleep(1)
        events.append("stopped")
        await send({"type": "lifespan.shutdown.complete"})

    return app


async def test_an_application_is_started_before_and_shut_down_after(
    autojump_clock: MockClock,
) -> None:
    events: list[str] = []
    run = Run(polite(events))
    run.events = events
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.main)
        await wait_all_tasks_blocked()
        assert events == ["starting"]
        await trio.sleep(2)
        assert events == ["starting", "ready"]
        assert run.state == {"database": "open"}
        run.scope.cancel()
    assert events == ["starting", "ready", "stopping", "stopped"]


async def returns_at_once(scope: Any, receive: Any, send: Any) -> None:
    pass


async def refuses_the_scope(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"


async def raises_after_a_while(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise RuntimeError("no such scope")


@pytest.mark.parametrize("app", [returns_at_once, refuses_the_scope, raises_after_a_while])
async def test_an_application_without_a_lifespan_counts_as_ready(
    app: ASGIApplication, nursery: trio.Nursery
) -> None:
    run = Run(app)
    nursery.start_soon(run.main)
    await wait_all_tasks_blocked()
    assert run.events == ["ready"]
    run.scope.cancel()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


@pytest.mark.parametrize(
    ("message", "problem"), [("no database", "no database"), ("", "it gave no reason")]
)
async def test_an_application_that_refuses_to_start_raises_with_its_reason(
    message: str, problem: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": message})

    run = Run(app)
    with pytest.raises(ApplicationStartError) as caught:
        await run.main()
    assert str(caught.value) == f"the mounted application did not start: {problem}"
    assert caught.value.problem == problem
    assert run.events == []


async def test_an_application_that_never_answers_times_out(autojump_clock: MockClock) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await trio.sleep_forever()

    with pytest.raises(ApplicationStartError, match="did not answer within 60 seconds"):
        await Run(app).main()
    assert trio.current_time() == pytest.approx(60)


async def test_starting_can_be_cancelled(nursery: trio.Nursery) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep_forever()

    run = Run(app)
    nursery.start_soon(run.main)
    await wait_all_tasks_blocked()
    run.scope.cancel()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks
    assert run.events == []


Last = Callable[[Any], Awaitable[None]]


async def never(send: Any) -> None:
    await trio.sleep_forever()


async def fail(send: Any) -> None:
    await send({"type": "lifespan.shutdown.failed", "message": "disk full"})


async def crash(send: Any) -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("last", "logged", "seconds"),
    [
        (never, "did not shut down within 5 seconds", 5),
        (fail, "failed to shut down: disk full", 0),
        (crash, "the lifespan of the mounted application failed", 0),
    ],
)
async def test_an_application_that_does_not_shut_down_is_logged_and_ended(
    last: Last,
    logged: str,
    seconds: float,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await last(send)

    run = Run(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.main)
        await wait_all_tasks_blocked()
        run.scope.cancel()
    assert trio.current_time() == pytest.approx(seconds)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert logged in record.getMessage()


async def test_an_application_that_crashes_while_it_runs_does_not_end_the_server(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("a bug")

    run = Run(app)
    nursery.start_soon(run.main)
    await wait_all_tasks_blocked()
    assert run.events == ["ready"]
    assert "a bug" in caplog.text
    run.scope.cancel()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_an_unknown_lifespan_message_is_an_error_of_the_application(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.done"})

    run = Run(app)
    nursery.start_soon(run.main)
    await wait_all_tasks_blocked()
    assert "sent 'lifespan.shutdown.done' in its lifespan" in caplog.text
    run.scope.cancel()
