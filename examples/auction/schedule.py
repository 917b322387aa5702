"""Open auctions from outside the server: `python -m examples.auction.schedule "A chair" "A bell"`.

It chooses the key of an auction, and repeats `open` until the server confirms it. So each auction opens once.
"""

from __future__ import annotations

import argparse
import itertools
import secrets
from functools import partial

import trio

from channels import sign
from channels.client import ClientChannel, PushTimeout, Refused, open_socket
from examples.needs import run_until_ctrl_c, shared_secret


async def open_auction(hall: ClientChannel, title: str, price: int, seconds: float) -> str:
    """Open an auction, and return its key. This waits until a server has confirmed it."""
    key = secrets.token_hex(4)
    auction = {"key": key, "auction": {"title": title, "price": price, "seconds": seconds}}
    while True:
        try:
            await hall.push("open", auction)
            return key
        except (PushTimeout, Refused) as error:
            print("again:", error, flush=True)
            await trio.sleep(1)


async def main(url: str, secret: str, titles: list[str], every: float, seconds: float) -> None:
    """Open an auction for each title, again and again, until Ctrl-C."""
    async with (
        open_socket(url, auth_token=sign(secret, "scheduler", ""), wait=False) as socket,
        socket.channel("auctions", wait=False) as hall,
    ):
        for title in itertools.cycle(titles):
            key = await open_auction(hall, title, 10, seconds)
            print(f"opened {title!r} as {key}", flush=True)
            await trio.sleep(every)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Open auctions.")
    parser.add_argument("titles", nargs="*", default=["A bell", "A map of the city"])
    parser.add_argument("--every", type=float, default=45, help="seconds between two auctions")
    parser.add_argument("--seconds", type=float, default=60, help="seconds that an auction lasts")
    parser.add_argument("--url", default="ws://127.0.0.1:4000/scheduler")
    run_until_ctrl_c(partial(main, secret=shared_secret(), **vars(parser.parse_args())))
