"""A motion sensor that uses long polling: `python -m examples.sensors.device hall`."""

from __future__ import annotations

import argparse
from random import Random

import trio

from channels.client import Refused, open_socket


async def watch_room(url: str, room: str, motions: int, *, pause: float = 8.0) -> int:
    """Report motion in a room, with pauses of `pause` seconds on average. Return the number of refused reports."""
    random, refused = Random(), 0
    async with (
        open_socket(url, transport="longpoll") as socket,
        socket.channel(f"sensor:{room}") as channel,
    ):
        for _ in range(motions):
            try:
                await channel.push("motion", {})
            except Refused as error:
                refused += 1  # do not repeat this report, because the next one comes soon
                print(f"{room}: {error}")
            await trio.sleep(random.uniform(0, 2 * pause))
    return refused


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Be a motion sensor.")
    parser.add_argument("room", choices=["hall", "kitchen", "porch"])
    parser.add_argument("--url", default="http://127.0.0.1:4000/devices", help="socket of sensors")
    parser.add_argument("--motions", type=int, default=100, help="reports before the end")
    options = parser.parse_args()
    trio.run(lambda: watch_room(options.url, options.room, options.motions))
