"""The watchdog and `run_time` name the connection whose client keeps the event loop busy."""

from __future__ import annotations

import time
from typing import Any

import trio

from actors import open_runtime
from actors.instrumentation.watchdog import BLOCKED
from channels import Endpoint, Mount
from channels.messages import Message
from channels.serializers.serializer import Requirement
from channels.serializers.v2 import V2
from channels.telemetry import SESSION_STARTED
from tests.channels.rooms import UserSocket
from tests.channels.support import GENEROUS, TcpClient, text

REAL_CLOCK = True


class Slow(V2):
    """A serializer that computes for a while for each message with the event `slow`."""

    def decode(self, data: bytes, *, binary: bool) -> Message:
        message = super().decode(data, binary=binary)
        if message.event == "slow":
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                pass
        return message


async def test_a_slow_serializer_is_the_fault_of_its_connection() -> None:
    mount = Mount(UserSocket, serializers=[(Slow(), Requirement("~> 2.0.0"))])
    endpoint = Endpoint(sockets={"/socket": mount})
    pids: list[Any] = []
    blocked: list[Any] = []
    over = trio.Event()

    def note(_: object, __: object, about: Any) -> None:
        blocked.append((about["handler"], about["pid"]))
        over.set()

    async with open_runtime(log=False, watchdog=0.05, counts_run_time=True) as runtime:
        await endpoint.start_link(port=0)
        runtime.telemetry.attach(SESSION_STARTED, lambda _, __, about: pids.append(about["pid"]))
        runtime.telemetry.attach(BLOCKED, note)
        client = await TcpClient.connect(endpoint)
        async with client.stream:
            await client.write(text(None, "1", "phoenix", "slow", {}))
            with trio.fail_after(GENEROUS):
                await over.wait()
        run_time = runtime.process_info(pids[0])["run_time"]  # type: ignore[index]
    assert blocked == [("Slow.decode", pids[0])]
    assert run_time >= 0.2
