"""The application that the clients use: `ashtree serve tests.clients.server:endpoint`.

The room and its presence are those of `examples.conformance`. The other channels speak the protocols that three
libraries add on top of Phoenix Channels: GraphQL as Absinthe does, states of LiveState, and documents of Yjs.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, ClassVar

import actors
from channels import Binary, Broadcast, Channel, Endpoint, Mount, PushReply, Socket, handle_in
from examples.conformance import PresenceChannel, RoomChannel, online

ITEMS: dict[str, str] = {"1": "milk"}


class AbsintheChannel(Channel):
    """Run three GraphQL documents, which are known by the name of their field, as Absinthe's channel would.

    A client joins it as `__absinthe__:control`. A real application would hand the documents to a GraphQL library.
    """

    async def join(self, topic: str, payload: Any) -> None:
        self.subscriptions: set[str] = set()
        self.started = 0

    @handle_in("doc")
    async def run_document(self, payload: Any) -> PushReply:
        query, variables = payload["query"], payload.get("variables") or {}
        if "subscription" in query:
            self.started += 1
            subscription = f"__absinthe__:doc:{self.started}"
            self.subscriptions.add(subscription)
            if self.started == 1:
                self.endpoint.pubsub.subscribe("items")
            return PushReply({"subscriptionId": subscription})
        if "mutation" in query:
            ITEMS[variables["id"]] = variables["name"]
            self.endpoint.broadcast("items", "renamed", {"id": variables["id"]})
        elif "item" not in query:
            return PushReply({"errors": [{"message": "Cannot query this field"}]})
        return PushReply({"data": {"item": {"name": ITEMS[variables["id"]]}}})

    @handle_in("unsubscribe")
    async def unsubscribe(self, payload: Any) -> PushReply:
        self.subscriptions.discard(payload["subscriptionId"])
        return PushReply(payload)

    async def handle_info(self, message: Any) -> None:
        assert isinstance(message, Broadcast)
        result = {"data": {"item": {"name": ITEMS[message.payload["id"]]}}}
        for subscription in sorted(self.subscriptions):
            self.push("subscription:data", {"subscriptionId": subscription, "result": result})


class LiveStateChannel(Channel):
    """Keep a list in the channel, and send it whole, or as a JSON Patch after a change."""

    async def join(self, topic: str, payload: Any) -> None:
        self.items: list[str] = []
        self.version = 0
        actors.send(actors.current_pid(), "after join")

    async def handle_info(self, message: Any) -> None:
        self.refresh()

    def refresh(self) -> None:
        self.push("state:change", {"state": {"items": self.items}, "version": self.version})

    @handle_in("lvs_evt:add")
    async def add(self, payload: Any) -> None:
        self.items.append(payload["item"])
        self.version += 1
        patch = [{"op": "add", "path": "/items/-", "value": payload["item"]}]
        self.push("state:patch", {"patch": patch, "version": self.version})

    @handle_in("lvs_evt:skip")
    async def skip(self, payload: Any) -> None:
        """Let the client miss a version, so that it asks for the whole state."""
        self.version += 1
        await self.add(payload)

    @handle_in("lvs_evt:boom")
    async def boom(self, payload: Any) -> None:
        raise RuntimeError("boom")

    @handle_in("lvs_refresh")
    async def send_everything(self, payload: Any) -> None:
        self.refresh()


SYNC_STEP_1, SYNC_STEP_2, SYNC_UPDATE = b"\x00\x00", b"\x00\x01", b"\x00\x02"
NO_STATE = SYNC_STEP_1 + b"\x01\x00"


class YjsChannel(Channel):
    """Pass on the messages of Yjs, and keep the updates of each document for clients that come later."""

    updates: ClassVar[defaultdict[str, list[Binary]]] = defaultdict(list)

    @handle_in("yjs_sync")
    async def synchronise(self, payload: Binary) -> None:
        for update in self.updates[self.topic]:
            self.push("yjs", update)
        # An empty state vector asks the client for all that it has.
        self.push("yjs", Binary(NO_STATE))

    @handle_in("yjs")
    async def pass_on(self, payload: Binary) -> None:
        if payload.data[:2] in (SYNC_STEP_2, SYNC_UPDATE):
            self.updates[self.topic].append(Binary(payload.data))
        self.broadcast_from("yjs", Binary(payload.data))


class ClientSocket(Socket):
    """A socket that accepts every client."""

    channels = {
        "room:*": RoomChannel,
        "presence:*": PresenceChannel,
        "__absinthe__:control": AbsintheChannel,
        "state:*": LiveStateChannel,
        "yjs:*": YjsChannel,
    }

    async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
        pass


# A client that sends no heartbeats loses its connection to `/beating` after three seconds.
endpoint = Endpoint(
    sockets={"/socket": Mount(ClientSocket), "/beating": Mount(ClientSocket, timeout=3.0)},
    presences=[online],
)
