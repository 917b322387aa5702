"""Open auctions from outside the server, one after the other: `python -m examples.auction.schedule "A chair"`.

This program chooses the key of an auction, and repeats `open` with the same key until the server confirms it. So each
auction opens once, even if answers are lost.
"""

from __future__ import annotations

import argparse
import itertools
import os
import secrets

import trio

from channels import sign
from channels.client import ClientChannel, PushTimeout, Refused, open_socket

TITLES = ("A chair of ash wood", "A map of the old city", "A bell without a clapper")


async def open_auction(
    hall: ClientChannel, title: str, *, price: int = 10, seconds: float = 60.0
) -> str:
    """Open an auction, and return its key. This waits until a server has confirmed it."""
    auction = {"key": secrets.token_hex(4), "title": title, "price": price, "seconds": seconds}
    while True:
        try:
            await hall.push("open", auction)
            return str(auction["key"])
        except (PushTimeout, Refused) as error:
            print("again:", error, flush=True)
            await trio.sleep(1)


async def main(url: str, secret: str, titles: list[str], *, every: float, seconds: float) -> None:
    """Open an auction for each title, again and again, until Ctrl-C."""
    token = sign(secret, "scheduler", "schedule.py")
    async with (
        open_socket(url, auth_token=token, wait=False) as socket,
        socket.channel("auctions", wait=False) as hall,
    ):
        for title in itertools.cycle(titles):
            key = await open_auction(hall, title, seconds=seconds)
            print(f"opened {title!r} as {key}", flush=True)
            await trio.sleep(every)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Open auctions.")
    parser.add_argument("titles", nargs="*", default=TITLES)
    parser.add_argument("--every", type=float, default=45, help="seconds between two auctions")
    parser.add_argument("--seconds", type=float, default=60, help="seconds that an auction lasts")
    parser.add_argument("--url", default="ws://127.0.0.1:4000/scheduler")
    options = parser.parse_args()
    secret_key_base = os.environ.get("SECRET_KEY_BASE")
    if not secret_key_base:
        parser.error("set SECRET_KEY_BASE to the secret of the server")
    titles = list(options.titles)
    try:
        trio.run(
            lambda: main(
                options.url, secret_key_base, titles, every=options.every, seconds=options.seconds
            )
        )
    except* KeyboardInterrupt:
        print("bye")
