"""The server of `channels.testing.SimulatedRedis` without a world: its connections are streams in memory."""

from __future__ import annotations

import trio
import trio.testing

from channels.testing import SimulatedRedis


class RespServer(SimulatedRedis):
    """A server in this process, which can be killed and started again.

    Attributes:
        is_up: False while it refuses connections.
    """

    def __init__(self, nursery: trio.Nursery, *, password: str | None = None) -> None:
        super().__init__(password=password)
        self._nursery = nursery
        self.is_up = True

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a connection, as `trio.open_tcp_stream` does."""
        await trio.lowlevel.checkpoint()
        if not self.is_up:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.serve, ours)
        return theirs

    def ignore(self, name: bytes) -> None:
        """Read nothing more from the open connections with this name."""
        for client in self.clients:
            if client.name == name:
                client.reads = trio.Event()

    async def kill(self) -> None:
        """Break all connections, and refuse new ones until `start`."""
        self.is_up = False
        await self.close_all()

    async def close_all(self) -> None:
        """Close all connections."""
        for client in list(self.clients):
            await trio.aclose_forcefully(client.stream)

    def start(self) -> None:
        self.is_up = True

    async def restart(self) -> None:
        """Close all connections, and begin another run."""
        await self.close_all()
        self.boot()
