"""A node whose clients join the topic `news`, and the durable topics `story:*`. Programs publish over HTTP.

`REDIS_URL`, `NODE_NAME` and `PUBLISH_SECRET` are variables of the environment. Each token may send one message.
"""

from __future__ import annotations

import argparse
import os

import trio

from actors import open_runtime
from channels import Channel, Endpoint, PubSub, Socket, verify
from channels.durable import DurableChannel, History, RedisStorage
from channels.publishing.http import HttpPublish
from channels.pubsub.redis.adapter import RedisAdapter
from tests.patience import until

SECRET = os.environ.get("PUBLISH_SECRET", "a secret of the tests alone")


def verified(token: str) -> object:
    return verify(SECRET, "publish", token)


class StoryChannel(DurableChannel):
    history = History(RedisStorage(os.environ["REDIS_URL"]))


class NewsSocket(Socket):
    channels = {"news": Channel, "story:*": StoryChannel}


async def main(port: int) -> None:
    adapter = RedisAdapter(os.environ["REDIS_URL"], node_name=os.environ["NODE_NAME"])
    endpoint = Endpoint(
        sockets={"/socket": NewsSocket},
        pubsub=PubSub(adapter),
        histories=[StoryChannel.history],
        publish=HttpPublish(token=verified, max_messages_per_second=0.1),
    )
    async with open_runtime():
        await endpoint.start_link(port=port)
        await until(lambda: adapter.statistics()["connected"])
        print("http://{}:{}".format(*endpoint.address), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    trio.run(main, parser.parse_args().port)
