"""A server with a durable topic in a SQLite file, for the tests of phoenix.js: HISTORY names the file."""

from __future__ import annotations

import os
from typing import Any

from channels import Endpoint, PushReply, Socket, handle_in
from channels.cli.serve import run_endpoint
from channels.durable import DurableChannel, History, SQLiteStorage


class Document(DurableChannel):
    """A document whose edits every client gets."""

    history = History(SQLiteStorage(os.environ["HISTORY"]), max_messages=10_000)

    @handle_in("edit")
    async def edit(self, payload: Any) -> PushReply:
        await self.append("edited", payload)
        return PushReply()


class UserSocket(Socket):
    """A socket for anyone."""

    channels = {"document:*": Document}


assert Document.history is not None
endpoint = Endpoint(sockets={"/socket": UserSocket}, histories=[Document.history])

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="error")
