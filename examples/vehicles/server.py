"""The whole server of the map: a channel for each vehicle, a channel for each page, and the presence.

Every vehicle and every page has its own process, on the node that its client is connected to.
"""

from __future__ import annotations

import re
from os import environ
from pathlib import Path
from typing import Annotated, Any

from attrs import frozen
from msgspec import Meta

from actors import current_pid, send
from channels import (
    Channel,
    Endpoint,
    JoinRefused,
    PubSub,
    Socket,
    handle_in,
    handle_out,
)
from channels.presence import Presence
from channels.pubsub.redis import RedisAdapter
from examples.phoenix_js import page_folders

from .city import AVENUES, HEIGHT, STREETS, WIDTH

# Use PubSub() for one server, with or without workers. For several nodes, use PubSub(RedisAdapter("redis://...")).
redis = environ.get("REDIS_URL")
pubsub = PubSub(RedisAdapter(redis, node_name=environ.get("NODE_NAME")) if redis else None)

# A client joins again a second after a crash. That is within the grace, so it stays in the list.
fleet = Presence(name="fleet", leave_grace=3.0, heartbeat=0.5, down_period=3.0)


@frozen
class Position:
    """A place in the city."""

    x: Annotated[float, Meta(ge=0, le=WIDTH)]
    y: Annotated[float, Meta(ge=0, le=HEIGHT)]


@frozen
class Vehicle:
    """The name of a vehicle, in a push of the page."""

    name: Annotated[str, Meta(max_length=16)]


class VehicleChannel(Channel):
    """One vehicle, with the count of its reports."""

    async def join(self, topic: str, payload: Any) -> None:
        self.name = topic.removeprefix("vehicle:")
        if not re.fullmatch(r"[a-z0-9-]{1,16}", self.name):
            raise JoinRefused({"reason": "invalid name"})
        self.reports = 0
        here = {"node": pubsub.node_name, "process": current_pid().number}
        fleet.track("map", topic, here)

    @handle_in("position")
    async def position(self, payload: Position) -> None:
        self.reports += 1
        report = {"name": self.name, "x": payload.x, "y": payload.y, "reports": self.reports}
        # A page that is behind gets only the newest position of each vehicle.
        self.endpoint.broadcast_latest("map", "position", report, key=self.name)

    @handle_out("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError(f"somebody pressed the crash button of {self.name}")


class MapChannel(Channel):
    """One page, which shows all vehicles."""

    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        send(current_pid(), "after join")
        city = {"width": WIDTH, "height": HEIGHT, "streets": STREETS, "avenues": AVENUES}
        return {"node": pubsub.node_name, "city": city}

    async def handle_info(self, message: Any) -> None:
        fleet.track(self, "viewers", {"node": pubsub.node_name})
        await fleet.push_state(self)

    @handle_in("crash")
    async def crash(self, payload: Vehicle) -> None:
        # The vehicle's channel intercepts this broadcast, on any node.
        self.endpoint.broadcast(f"vehicle:{payload.name}", "crash", {})


class UserSocket(Socket):
    """The socket of vehicles and pages."""

    channels = {"vehicle:*": VehicleChannel, "map": MapChannel}


endpoint = Endpoint(
    sockets={"/socket": UserSocket},
    static=page_folders(Path(__file__).parent),
    pubsub=pubsub,
    presences=[fleet],
)
