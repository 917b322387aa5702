"""The cost of one frame in the pure half of a connection: `python -m tests.benchmarks.session`.

Prints the best of several runs in nanoseconds; nothing is asserted and no test run includes it.
"""

from __future__ import annotations

import timeit
from collections import deque
from collections.abc import Callable

from channels.protocol.session import Session
from channels.serializers.serializer import Codec
from channels.serializers.v2 import V2
from channels.topics import Route, Router
from channels.wire.websocket import frame
from tests.channels.sessions import NotingOwner, accept

JOIN = b'["1","1","room:a","phx_join",{}]'
REJOIN = b'["3","3","room:b","phx_join",{}]'
ECHO = b'["1","2","room:a","echo",{"x":1}]'
HEARTBEAT = b'[null,"7","phoenix","heartbeat",{}]'
PAYLOAD = {"x": 1}


def cases() -> dict[str, Callable[[], object]]:
    v2 = V2()
    codec = Codec(v2, frame)
    owner = NotingOwner()
    # A benchmark sends too many frames to note them.
    owner.calls = deque(maxlen=1)
    owner.session = session = Session(codec, Router([Route("room:*", "RoomChannel")]).match, owner)
    session.receive(JOIN, binary=False)
    accept(session.memberships[0])

    def join_and_close() -> None:
        session.receive(REJOIN, binary=False)
        session.exited(owner.calls[-1].membership)

    return {
        "nothing": lambda: None,
        "V2.decode": lambda: v2.decode(ECHO, binary=False),
        "receive: push to a joined topic": lambda: session.receive(ECHO, binary=False),
        "receive: heartbeat": lambda: session.receive(HEARTBEAT, binary=False),
        "receive: join, then end": join_and_close,
        "V2.encode_reply": lambda: v2.encode_reply("1", "2", "room:a", "ok", PAYLOAD),
        "reply, framed": lambda: codec.reply("1", "2", "room:a", "ok", PAYLOAD),
        "push, framed": lambda: codec.push("1", "room:a", "new_msg", PAYLOAD),
        "broadcast, framed": lambda: codec.broadcast("room:a", "new_msg", PAYLOAD),
    }


def main() -> None:
    number = 100_000
    for name, case in cases().items():
        best = min(timeit.repeat(case, number=number, repeat=7)) / number
        print(f"{name:34} {best * 1e9:7.0f} ns")


if __name__ == "__main__":
    main()
