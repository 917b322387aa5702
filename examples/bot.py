"""A bot in the chat, on the client for Python: `python -m examples.bot ws://127.0.0.1:4000/socket`.

It counts the messages of each user, and answers "!count" and "!help". Stop and start the chat while the bot runs: the
bot reconnects, and keeps its counts, because they are in this program and not in the server.
"""

from __future__ import annotations

import argparse
from collections import Counter
from functools import partial

import trio

from channels.client import (
    ClientChannel,
    ClientSocket,
    Connected,
    ConnectFailed,
    PushTimeout,
    Retrying,
    open_socket,
)
from examples.needs import run_until_ctrl_c

NAME = "bot"
START = "python -m examples.chat"
ATTEMPTS = 5
"""The number of attempts to connect after which the bot says what to start."""
HELP = "I count. Say !count to see who has said how much."


async def answer(channel: ClientChannel, name: str, body: str, said: Counter[str]) -> None:
    """Answer a message that is for the bot."""
    match body.strip():
        case "!help":
            text = HELP
        case "!count":
            text = ", ".join(f"{who}: {count}" for who, count in said.most_common(10))
        case _:
            said[name] += 1
            return
    try:
        await channel.push("new_msg", {"body": text})
    except PushTimeout:
        # The connection broke before the reply. Do not repeat the answer: a user who still wants it asks again.
        print("not sent:", text, flush=True)


async def tell(socket: ClientSocket, url: str) -> None:
    """Print the events of the connection. After a few attempts without a server, say once what to start."""
    failed = 0
    async for event in socket.events():
        if isinstance(event, Connected):
            failed = 0
        elif isinstance(event, ConnectFailed):
            failed += 1
            if failed == ATTEMPTS:
                print(
                    f"cannot connect to {url}: {event.cause}. Start the chat in another terminal with `{START}`. The "
                    "bot tries again, and prints nothing until it is connected.",
                    flush=True,
                )
        if failed < ATTEMPTS or not isinstance(event, ConnectFailed | Retrying):
            print(event, flush=True)


async def main(url: str) -> None:
    """Stay in the lobby until Ctrl-C."""
    said: Counter[str] = Counter()
    async with open_socket(url, wait=False) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(tell, socket, url)
        # The answers have a nursery inside the channel, so that Ctrl-C cancels them before the bot leaves the channel.
        async with (
            socket.channel("room:lobby", {"name": NAME}, wait=False) as channel,
            trio.open_nursery() as answers,
        ):
            async for payload in channel.on("new_msg"):
                if payload["name"] != NAME:
                    answers.start_soon(answer, channel, payload["name"], payload["body"], said)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A bot in the chat.")
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:4000/socket")
    run_until_ctrl_c(partial(main, parser.parse_args().url))
