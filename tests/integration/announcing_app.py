"""A FastAPI application for an endpoint's `http=`. Its routes broadcast to the clients of the sockets.

FastAPI runs a `def` route in a thread and an `async def` route in a task. Run as
`python -m tests.integration.announcing_app --port 4000`.
"""

from __future__ import annotations

import argparse

import trio
from fastapi import FastAPI

from actors import open_runtime
from channels import Channel, EncodeError, Endpoint, Socket


class NewsSocket(Socket):
    channels = {"news": Channel}


app = FastAPI()
endpoint = Endpoint(sockets={"/socket": NewsSocket}, http=app)


@app.post("/from-a-thread")
def from_a_thread(first: int, count: int = 1) -> dict[str, int]:
    """Announce numbers, one after the other."""
    for number in range(first, first + count):
        endpoint.broadcast("news", "announced", {"from": "a thread", "n": number})
    return {"announced": count}


@app.post("/from-a-task")
async def from_a_task(first: int, count: int = 1) -> dict[str, int]:
    """Do the same in a task."""
    for number in range(first, first + count):
        endpoint.broadcast("news", "announced", {"from": "a task", "n": number})
    return {"announced": count}


@app.post("/what-cannot-be-announced")
def what_cannot_be_announced() -> dict[str, str]:
    """Announce something that JSON has no form for."""
    try:
        endpoint.broadcast("news", "announced", {"n": object()})
    except EncodeError as error:
        return {"refused": str(error.event)}
    return {}


async def main(port: int) -> None:
    async with open_runtime():
        await endpoint.start_link(port=port)
        print("http://{}:{}".format(*endpoint.address), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=4000)
    trio.run(main, parser.parse_args().port)
