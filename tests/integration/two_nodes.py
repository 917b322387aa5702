"""The conformance application on two nodes in one process: `python -m tests.integration.two_nodes --port 4100`.

The port is that of node a. Node b takes any free one.
"""

from __future__ import annotations

import argparse

import trio

from actors import open_runtime
from channels import Endpoint, PubSub
from channels.testing import JoinedNodes
from examples.conformance import endpoint as application


async def main(port: int) -> None:
    nodes = JoinedNodes()
    async with open_runtime():
        for name in ("a", "b"):
            endpoint = Endpoint(
                sockets=application.sockets,
                pubsub=PubSub(nodes.adapter(name)),
                secret_key_base="the secret of both nodes",
            )
            await endpoint.start_link(port=port if name == "a" else 0)
            print(f"Node {name} listens on http://127.0.0.1:{endpoint.address[1]}", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    trio.run(main, parser.parse_args().port)
