"""Publish a story from outside the server: `python -m examples.news.publish sport "Ash wins the cup"`.

This program is a client of the server. `examples/announce.py` publishes over Redis instead, without a connection to a
server.
"""

from __future__ import annotations

import argparse
import os

import trio

from channels import sign
from channels.client import open_socket


async def publish(url: str, secret: str, section: str, headline: str) -> int:
    """Publish one story, and return its number.

    Args:
        url: the socket of the server, such as `ws://127.0.0.1:4000/socket`.
        secret: the secret of the server, which signs the token.
        section: world, science or sport.
        headline: the text.

    Raises:
        Refused: the server has another secret, or the story is invalid.
    """
    async with (
        open_socket(url, auth_token=sign(secret, "newsroom", "publisher")) as socket,
        socket.channel("newsroom") as newsroom,
    ):
        answer = await newsroom.push("publish", {"section": section, "headline": headline})
    return int(answer["number"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Publish a story.")
    parser.add_argument("section", choices=["world", "science", "sport"])
    parser.add_argument("headline")
    parser.add_argument("--url", default="ws://127.0.0.1:4000/socket", help="socket of the server")
    options = parser.parse_args()
    secret_key_base = os.environ.get("SECRET_KEY_BASE")
    if not secret_key_base:
        parser.error("set SECRET_KEY_BASE to the secret of the server")
    number = trio.run(publish, options.url, secret_key_base, options.section, options.headline)
    print(f"Published as number {number}")
