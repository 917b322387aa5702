"""Tell the clients of all nodes something, from a program that is not a node: a cron job, for example.

`REDIS_URL=redis://127.0.0.1:6379 python -m examples.announce "The server restarts at noon"`
"""

from __future__ import annotations

import os
import sys

from channels.publishing import Publisher

# It connects at the first message, so making it costs nothing. Threads may share it.
publisher = Publisher(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))


def announce(text: str) -> None:
    """Send a text to every client of the topic `news`."""
    publisher.publish("news", "announced", {"body": text})


if __name__ == "__main__":
    announce(" ".join(sys.argv[1:]))
