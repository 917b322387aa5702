"""A server with a durable topic, for the tests of phoenix.js.

HISTORY is the path of a SQLite file. MESSAGES is the number of messages that the topic keeps.
"""

from __future__ import annotations

import os
from typing import Any

from channels import Endpoint, PushReply, Socket, handle_in
from channels.cli.serve import run_endpoint
from channels.durable import DurableChannel, History, SQLiteStorage


class Document(DurableChannel):
    """A document whose edits every client gets."""

    history = History(
        SQLiteStorage(os.environ["HISTORY"]), max_messages=int(os.environ["MESSAGES"])
    )

    @handle_in("edit")
    async def edit(self, payload: Any) -> PushReply:
        return PushReply({"position": await self.append("edited", payload)})


class UserSocket(Socket):
    """A socket for anyone."""

    channels = {"document:*": Document}


assert Document.history is not None
endpoint = Endpoint(sockets={"/socket": UserSocket}, histories=[Document.history])

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="error")
