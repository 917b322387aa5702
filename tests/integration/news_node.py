"""A node whose clients join the topic `news`. `REDIS_URL` and `NODE_NAME` are variables of the environment."""

from __future__ import annotations

import argparse
import os

import trio

from actors import open_runtime
from channels import Channel, Endpoint, PubSub, Socket
from channels.pubsub.redis.adapter import RedisAdapter
from tests.patience import until


class NewsSocket(Socket):
    channels = {"news": Channel}


async def main(port: int) -> None:
    adapter = RedisAdapter(os.environ["REDIS_URL"], node_name=os.environ["NODE_NAME"])
    endpoint = Endpoint(sockets={"/socket": NewsSocket}, pubsub=PubSub(adapter))
    async with open_runtime():
        await endpoint.start_link(port=port)
        await until(lambda: adapter.statistics()["connected"])
        print("http://{}:{}".format(*endpoint.address), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    trio.run(main, parser.parse_args().port)
