"""Circles of calls: debug builds find them, and a timeout ends them in other builds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from actors import (
    CallingSelf,
    CallTimeout,
    Crash,
    GenServer,
    NoReply,
    Reply,
    Sender,
    call,
    cast,
    open_runtime,
    reply,
    send,
    wait_exit,
)


class Forwarder(GenServer[str | None]):
    """A server that passes each call to the next one. The last one answers itself."""

    async def init(self, following: str | None) -> None:
        self.state = following

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if self.state is None:
            return Reply(request)
        return Reply(await call(self.state, request, timeout=request))


async def test_a_circle_of_calls_is_refused_with_its_chain() -> None:
    async with open_runtime(debug=True, log=False):
        a = await Forwarder.start("b", name="a")
        b = await Forwarder.start("c", name="b")
        c = await Forwarder.start("a", name="c")
        with pytest.raises(Exception, match="circle of calls") as caught:
            await call(a, math.inf, timeout=math.inf)
        # c gets the error and crashes. The others crash because their calls fail.
        assert f"{c!r} -> {a!r} -> {b!r} -> {c!r}" in str(caught.value)


async def test_without_debug_the_first_timeout_ends_a_circle_of_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime(debug=False, log=False):
        await Forwarder.start("b", name="a")
        b = await Forwarder.start("a", name="b")
        began = trio.current_time()
        with pytest.raises(Exception, match="ended with"):
            await call("a", 2, timeout=10)
        assert trio.current_time() - began == 2
        reason = await wait_exit(b)
        assert reason is not None


async def test_a_chain_of_calls_without_a_circle_is_answered() -> None:
    async with open_runtime(debug=True):
        await Forwarder.start("b", name="a")
        await Forwarder.start(None, name="b")
        assert await call("a", 7) == 7
        assert await call("a", 8) == 8


async def test_a_circle_through_a_server_that_replies_later_is_found() -> None:
    class Later(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> NoReply | Reply:
            if request == "question":
                send("later", sender)
                return NoReply()
            return Reply("help")

        async def handle_info(self, message: Any) -> None:
            reply(message, await call("helper", "help me"))

    class Helper(GenServer[None]):
        async def handle_cast(self, message: Any) -> None:
            assert await call("later", "question") == "yes"

        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            return Reply("yes")

    async with open_runtime(debug=True, log=False):
        await Later.start(name="later")
        helper = await Helper.start(name="helper")
        # The helper waits for the answer of `later`. Before the answer, `later` calls the helper, which closes a
        # circle.
        cast("helper", "go")
        reason = await wait_exit(helper)
        assert isinstance(reason, Crash)
        assert "circle of calls" in str(reason)


async def test_a_call_after_its_timeout_is_no_part_of_a_chain(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> NoReply:
            return NoReply()

        async def handle_info(self, message: Any) -> None:
            assert await call("asker", "anything") == "fine"
            send_back.set()

    class Asker(GenServer[None]):
        async def handle_cast(self, message: Any) -> None:
            with pytest.raises(CallTimeout):
                await call("slow", "question", timeout=1)

        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            return Reply("fine")

    send_back = trio.Event()
    async with open_runtime(debug=True):
        await Slow.start(name="slow")
        await Asker.start(name="asker")
        cast("asker", "go")
        await trio.sleep(2)
        send("slow", "now you")
        await send_back.wait()


def test_a_call_cycle_error_says_what_to_write_instead() -> None:
    one: Any = "<pid 1>"
    error = CallingSelf("a", "request", 5.0, chain=(one, one))
    assert "let one of them cast(), or answer with NoReply()" in str(error)
