"""A bidder without a page: `python -m examples.auction.bot --limit 200`.

It takes part in each new auction, and outbids the others up to its limit.
"""

from __future__ import annotations

import argparse
import random
from functools import partial

import trio

from channels import sign
from channels.client import ClientSocket, PushTimeout, Refused, open_socket
from examples.needs import run_until_ctrl_c, shared_secret


async def take_part(socket: ClientSocket, key: str, user: str, limit: int) -> None:
    """Outbid the others in one auction, until it is over or the price reaches the limit."""
    async with socket.channel(f"auction:{key}", wait=False, durable=True) as auction:
        async for message in auction:
            if message.event not in ("lot", "bid", "sold"):
                continue
            lot = message.payload
            amount = lot["price"] + 10
            if lot["sold"] or amount > limit:
                print(f"{lot['title']}: {lot['leader']} leads with {lot['price']}", flush=True)
                return
            if lot["leader"] != user:
                await trio.sleep(random.uniform(1, 3))  # as a person who thinks
                try:
                    await auction.push("bid", {"amount": amount})
                except (PushTimeout, Refused) as error:
                    print(error, flush=True)  # the next event tells the price


async def main(url: str, secret: str, user: str, limit: int) -> None:
    """Take part in each auction until Ctrl-C."""
    async with (
        open_socket(url, auth_token=sign(secret, "user socket", user), wait=False) as socket,
        trio.open_nursery() as nursery,
        socket.channel("auctions", wait=False, durable=True) as hall,
    ):
        async for message in hall:
            # A list has all auctions so far. The bot joins only the latest of them.
            opened = message.payload.get("auctions", [message.payload])
            for auction in opened[-1:]:
                nursery.start_soon(take_part, socket, auction["key"], user, limit)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A bidder without a page.")
    parser.add_argument("--user", default="Bot")
    parser.add_argument("--limit", type=int, default=100, help="the highest bid")
    parser.add_argument("--url", default="ws://127.0.0.1:4000/socket")
    run_until_ctrl_c(partial(main, secret=shared_secret(), **vars(parser.parse_args())))
