"""The server of the lights, with a socket for sensors and a socket for pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from actors import call, cast, current_pid, send
from channels import Channel, Endpoint, JoinRefused, Mount, PushReply, Socket, handle_in
from examples.one_worker import check_one_worker
from examples.phoenix_js import shared_folders
from supervision import child_spec

from .lamp import Lamp, Motion, Switch

ROOMS = ("hall", "kitchen", "porch")


@frozen
class Setting:
    """The payload of `switch`: a lamp, and its new mode."""

    lamp: Literal["hall", "kitchen", "porch"]
    to: Literal["on", "automatic"]


class SensorChannel(Channel):
    """The channel of the motion sensor in one room."""

    async def join(self, topic: str, payload: Any) -> None:
        self.room = topic.removeprefix("sensor:")
        if self.room not in ROOMS:
            raise JoinRefused({"reason": "no such room"})

    @handle_in("motion")
    async def motion(self, payload: Any) -> PushReply:
        cast(f"lamp {self.room}", Motion())
        return PushReply()


class LightsChannel(Channel):
    """The channel of one page, which shows all lamps."""

    async def join(self, topic: str, payload: Any) -> None:
        send(current_pid(), "after join")

    async def handle_info(self, message: Any) -> None:
        for room in ROOMS:
            self.push("lamp", await call(f"lamp {room}", "state"))

    @handle_in("switch")
    async def switch(self, payload: Setting) -> None:
        cast(f"lamp {payload.lamp}", Switch(payload.to))


class DeviceSocket(Socket):
    """The socket of a sensor."""

    channels = {"sensor:*": SensorChannel}
    max_messages_per_second = 0.5  # on average; after a pause, five messages at once
    max_channels = 4


class PageSocket(Socket):
    """The socket of a page."""

    channels = {"lights": LightsChannel}
    max_messages_per_second = 10.0


def tell(report: dict[str, Any]) -> None:
    """Send the state of a lamp to all pages."""
    endpoint.broadcast("lights", "lamp", report)


check_one_worker("the lamps")
endpoint = Endpoint(
    sockets={
        "/devices": Mount(DeviceSocket, websocket=False, longpoll=True),
        "/socket": PageSocket,
    },
    static=shared_folders(Path(__file__).parent),
    children=[child_spec(Lamp, room, tell, kwargs={"name": f"lamp {room}"}) for room in ROOMS],
)
