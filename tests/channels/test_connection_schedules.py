"""No input of a client, in any order and at any time, affects other clients or leaves resources behind.

Each example is a whole server on a virtual clock, a client that misbehaves, and a bystander that must not notice.
"""

from __future__ import annotations

from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st

from actors import open_runtime
from channels import Draining, Endpoint, Mount
from tests.channels.rooms import UserSocket
from tests.channels.support import (
    Client,
    Footprint,
    Server,
    reply,
    run_on_virtual_clock,
    settle,
    text,
)
from tests.channels.transports.frames import BINARY, CONTINUATION, PING, TEXT, client_frame

JOIN_PAYLOADS: st.SearchStrategy[Any] = st.sampled_from(
    [
        {},
        {"farewell": True},
        {"trap": True},
        {"sleep": 2},
        {"sleep": 2, "trap": True},
        {"refuse": {"no": 1}},
        {"sleep": 1, "refuse": {}},
        {"crash": True},
        {"sleep": 1, "crash": True},
        {"cling": 1.0},
        [],
        None,
    ]
)
REFS = st.sampled_from(["1", "2", "3", None, 1, "", ["x"], {"x": 1}])
TOPICS: st.SearchStrategy[Any] = st.sampled_from(
    ["room:a", "room:b", "room:\x00\u2028", "news", "phoenix", None, 7, ["room:a"], {}]
)
EVENTS: list[tuple[Any, Any]] = [
    ("echo", {"n": 1}),
    ("echo", ["any", None, 1.5]),
    ("count", {}),
    ("push", {}),
    ("push", "no object"),
    ("shout", {}),
    ("shout_from", {}),
    ("in_order", {}),
    ("sleep", {"seconds": 1}),
    ("boom", {}),
    ("exit", {"reason": "normal"}),
    ("exit", {"reason": "oops"}),
    ("stop", {"reason": "normal"}),
    ("stop", {"reason": "left", "reply": {}}),
    ("stop", {"reason": "oops"}),
    ("give", {"what": "text"}),
    ("phx_leave", {}),
    ("phx_reply", {}),
    ("heartbeat", {}),
    ("unknown", None),
    (["event"], {}),
    (None, {}),
]


def message(join_ref: Any, ref: Any, topic: Any, event: tuple[Any, Any]) -> bytes:
    return text(join_ref, ref, topic, *event)


MESSAGES = st.builds(message, REFS, REFS, TOPICS, st.sampled_from(EVENTS))
JOINS = st.builds(
    lambda ref, topic, payload: text(ref, ref, topic, "phx_join", payload),
    REFS,
    TOPICS,
    JOIN_PAYLOADS,
)
ODD = st.one_of(
    st.builds(client_frame, st.just(BINARY), st.binary(max_size=20)),
    st.builds(client_frame, st.just(TEXT), st.binary(max_size=20)),
    st.builds(client_frame, st.just(PING), st.binary(max_size=20)),
    st.builds(client_frame, st.just(CONTINUATION), st.binary(max_size=20)),
    st.binary(min_size=1, max_size=20),
)
# Mostly valid input, so that most schedules are long.
STEPS = st.lists(
    st.one_of(
        JOINS,
        JOINS,
        MESSAGES,
        MESSAGES,
        MESSAGES,
        ODD,
        st.sampled_from(["settle", "wait", "broadcast", "secret", "disconnect"]),
    ),
    max_size=25,
)


@given(STEPS, st.booleans())
def test_no_schedule_of_one_client_affects_another_or_leaks(
    steps: list[bytes | str], politely: bool
) -> None:
    run_on_virtual_clock(schedule, steps, politely)


async def schedule(steps: list[bytes | str], politely: bool) -> None:
    mounts: dict[str, Any] = {
        "/socket": Mount(UserSocket, timeout=30.0, max_frame_size=1000),
        "/other": UserSocket,
    }
    async with open_runtime(log=False) as runtime:
        endpoint = Endpoint(sockets=mounts, draining=Draining(timeout=0.1))
        server = Server(endpoint, runtime, await endpoint.start_link(port=0))
        bystander = await server.connect("/other")
        await bystander.join("room:z")
        before = Footprint.of(runtime)
        crashed: list[str] = []
        runtime.telemetry.attach(
            ("actors", "process", "crash"), lambda _, __, about: crashed.append(about["process"])
        )
        client = await server.connect(query="&user=ann")
        for step in steps:
            await take(server, client, step)
        await settle()
        if not client.is_closed:
            if politely:
                client.close()
            else:
                client.end()
        # Channels that take no notice of anything are killed after five seconds, and give in after one more.
        await trio.sleep(15)
        assert Footprint.of(runtime) == before
        assert server.endpoint.statistics()["subscriptions"] == 1
        # Only channels crash, because of their handlers, and the log names them.
        assert all(process.startswith("Room '") for process in crashed), crashed
        assert bystander.frames() == []
        assert await bystander.exchange(("1", "2", "room:z", "count")) == [
            reply("1", "2", "room:z", {"count": 1})
        ]


async def take(server: Server, client: Client, step: bytes | str) -> None:
    if isinstance(step, bytes):
        if not client.is_closed:
            client.write(step)
    elif step == "settle":
        await settle()
    elif step == "wait":
        await trio.sleep(1.5)
    elif step == "broadcast":
        server.endpoint.broadcast("room:a", "shouted", {})
    elif step == "secret":
        server.endpoint.broadcast("room:a", "secret", {})
    else:
        server.endpoint.broadcast("user:ann", "disconnect", {})
