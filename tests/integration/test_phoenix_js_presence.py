"""The class Presence of the unmodified phoenix.js, with its clients spread over nodes and workers.

Its list, and what `onJoin` and `onLeave` told, agree with every server whenever no diff is under way.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import define, field

from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.servers import serving
from tests.integration.valkey import valkey
from tests.integration.worker_servers import WorkersServer
from tests.patience import wait_until

APP = "tests.integration.presence_app"
ROOM = "room:lobby"

KINDS: list[Any] = [pytest.param("joined", marks=pytest.mark.deep), "redis"]
if hasattr(socket, "SO_REUSEPORT") and os.uname().sysname == "Linux":
    KINDS.append("workers")


@contextlib.contextmanager
def joined(folder: Path) -> Iterator[list[str]]:
    """Two nodes in one process."""
    with serving(APP, folder, {"JOINED": "1"}) as server:
        yield [f"ws://127.0.0.1:{server.port + number}/socket" for number in range(2)]


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[list[str]]:
    """Two nodes as two processes, and a Valkey server."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(valkey(folder))
        urls = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            environment = {"REDIS_URL": store.url, "NODE_NAME": name}
            server = stack.enter_context(serving(APP, folder / name, environment))
            urls.append(server.socket_url)
        yield urls


@contextlib.contextmanager
def workers(folder: Path) -> Iterator[list[str]]:
    """Three workers at one port: the system spreads the clients over them."""
    server = WorkersServer(folder, 3, target=f"{APP}:endpoint")
    try:
        server.serve()
        yield [f"ws://127.0.0.1:{server.port}/socket"]
    finally:
        server.close()


CLUSTERS = {"joined": joined, "redis": redis, "workers": workers}


@pytest.fixture(params=KINDS)
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    with CLUSTERS[request.param](tmp_path) as urls:
        yield urls


@define(eq=False)
class Member:
    """A client in the room, and who is there by its callbacks alone."""

    user: str
    client: PhoenixJs
    refs: dict[str, set[str]] = field(factory=dict)
    syncs: int = 0

    def told(self) -> dict[str, set[str]]:
        """Read what the callbacks have told since the last call, in order."""
        for each in self.client.take("present", "absent", "sync"):
            known = self.refs.get(each.get("key", ""), set())
            if each["kind"] == "present":
                self.refs[each["key"]] = known | set(each["refs"])
            elif each["kind"] == "absent":
                self.refs[each["key"]] = known - set(each["refs"])
            else:
                self.syncs += 1
        return {key: refs for key, refs in self.refs.items() if refs}

    def asks(self) -> tuple[int, dict[str, Any]]:
        """Ask the node of this client who is there. Return the process of the node, and its list."""
        status, response = self.client.request(ROOM, "who")
        assert status == "ok"
        return response["pid"], response["presences"]


def refs_of(presences: dict[str, Any]) -> dict[str, set[str]]:
    return {key: {meta["phx_ref"] for meta in entry["metas"]} for key, entry in presences.items()}


def agree(members: list[Member], users: set[str]) -> None:
    """Wait until the list of each client, what it was told, and the list of its node are the same."""
    seen: list[Any] = []

    def all_agree() -> bool:
        seen[:] = [(each.user, each.client.present(ROOM), each.asks()[1]) for each in members]
        here = refs_of(seen[0][1])
        return here.keys() == users and all(
            refs_of(present) == refs_of(listed) == here == member.told()
            for member, (_, present, listed) in zip(members, seen, strict=True)
        )

    wait_until(all_agree, lambda: f"{sorted(users)}, but {seen}")


def test_everybody_sees_everybody_through_joins_updates_leaves_crashes_and_lost_connections(
    urls: list[str],
) -> None:
    random = Random(11)
    with contextlib.ExitStack() as stack:
        members = []
        for number in range(5):
            client = stack.enter_context(connected(urls[number % len(urls)]))
            member = Member(f"user {number % 4}", client)
            client.join_present(ROOM, {"user": member.user})
            members.append(member)
        users = {member.user for member in members}
        agree(members, users)
        assert all(member.syncs >= 1 for member in members)

        for n in range(6):
            random.choice(members).client.request(ROOM, "update", {"n": n})
        agree(members, users)

        gone = members.pop(0)
        gone.client.tell("leave", topic=ROOM)
        assert gone.client.expect("leave")["status"] == "ok"
        # Another client is present under the same key.
        agree(members, users)

        crashed = members[0]
        crashed.client.push(ROOM, "crash")
        assert crashed.client.joined(ROOM)[0] == "ok"
        agree(members, users)

        cut = members[1]
        cut.client.tell("cut")
        assert cut.client.joined(ROOM)[0] == "ok"
        agree(members, users)

        left = members.pop()
        left.client.tell("disconnect")
        left.client.expect("disconnected")
        agree(members, {member.user for member in members})
