"""The whole server of the document: a durable topic whose messages are the edits.

Only the history stores the text: the text is the result of all edits, in the order of the history. A history is
bounded. So, after every hundredth edit, the server appends a checkpoint, a message with the whole text. The text is
then the last checkpoint with the later edits applied.
"""

from __future__ import annotations

from os import environ
from pathlib import Path
from typing import Any

import msgspec

from channels import Endpoint, JoinRefused, PushReply, Socket, handle_in
from channels.durable import JAVASCRIPT, DurableChannel, History, Recovery, SQLiteStorage
from examples.phoenix_js import page_folders

from .text import Edit, Text, apply, new_text

CHECKPOINT_EVERY = 100

# The bounds keep five checkpoints, even with the longest paragraphs and after any time without edits. For a day, the
# server recognizes a repeated edit.
history = History(
    SQLiteStorage(environ.get("DOCUMENT", "document.db")),
    max_messages=5 * CHECKPOINT_EVERY,
    max_bytes=64 * 1024 * 1024,
    max_age=100 * 365 * 24 * 3600.0,
    max_replay=CHECKPOINT_EVERY,
    max_answer_age=24 * 3600.0,
)


class DocumentChannel(DurableChannel):
    """The channel of one tab. It keeps no text, because the history has all edits."""

    history = history

    async def join(self, topic: str, payload: Any) -> None:
        if topic != "document:minutes":
            raise JoinRefused({"reason": "there is no such document"})
        # The connection may break after the join and before the tab gets the text. So the tab asks at each join until
        # it has the text.
        self.wants_text = payload.get("wants_text", True)

    async def on_recovered(self, recovery: Recovery) -> None:
        text = None
        if self.wants_text or not recovery.recovered:
            # Send the text at the present position of the tab. Later edits follow.
            here = recovery.entries[-1] if recovery.entries else recovery.start
            text, _ = await self.read(until=here.offset)
        self.push("ready", {"text": text})

    @handle_in("edit")
    async def edit(self, payload: Edit) -> PushReply:
        position = await self.append("edited", msgspec.to_builtins(payload))
        if int(position.rpartition(":")[2]) % CHECKPOINT_EVERY == 0:
            text, at = await self.read()
            await self.append("checkpoint", {"at": at, "text": text})
        return PushReply()

    async def read(self, until: float = float("inf")) -> tuple[Text, int]:
        """Return the text after all edits up to `until`, and the offset of the last of these edits."""
        found = await history.read(self.topic)
        text, at = new_text(), 0
        messages = [(each, msgspec.json.decode(each.body)) for each in found.entries]
        for entry, payload in messages:
            if entry.event == "checkpoint" and at <= payload["at"] <= until:
                text, at = payload["text"], payload["at"]
        for entry, payload in messages:
            if entry.event == "edited" and at < entry.offset <= until:
                apply(text, payload["changes"])
                at = entry.offset
        return text, at


class UserSocket(Socket):
    """The socket of a browser tab."""

    channels = {"document:*": DocumentChannel}


endpoint = Endpoint(
    sockets={"/socket": UserSocket},
    static={**page_folders(Path(__file__).parent), "/ashtree": JAVASCRIPT},
    histories=[history],
)
