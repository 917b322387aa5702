"""Durable topics with the unmodified phoenix.js, a real server and its storage, over kills and cut connections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.servers import Server, serving
from tests.integration.valkey import Valkey, valkey
from tests.patience import wait_until

TOPIC = "document:1"
EDIT = "edit and locate"
ROOT = Path(__file__).parents[2]

# Seconds, after which a client repeats a push.
REPEAT_AFTER = 3.0

# Each message is on the disk before it is acknowledged.
SAFE = {"appendonly": "yes", "appendfsync": "always"}


@contextlib.contextmanager
def served(folder: Path, messages: int, database: Valkey | None = None) -> Iterator[Server]:
    """Serve a topic that keeps a number of messages, in a database or in a SQLite file."""
    place = str(folder / "history.db") if database is None else database.url
    environment = {"HISTORY": place, "MESSAGES": str(messages)}
    with serving("tests.integration.durable_server", folder, environment) as server:
        yield server


def offset_of(position: str) -> int:
    return int(position.rpartition(":")[2])


class Reader:
    """A client that has joined, with all that it has seen since then, and what this proves.

    Attributes:
        joins: the number of joins since the first one.
        got: the number in each edit that came, by its offset.
        excused: the offsets of messages that did not come, and a join told the client so.
    """

    def __init__(self, client: PhoenixJs) -> None:
        self.client = client
        status, response = client.join_durably(TOPIC)
        assert (status, response["_recovered"], response["_reason"]) == ("ok", False, "new")
        self._epoch = response["_position"].rpartition(":")[0]
        self._offset = offset_of(response["_position"])
        self.joins = 0
        self.got: dict[int, int] = {}
        self.excused: set[int] = set()

    def _read(self) -> None:
        for event in self.client.take("join", "message"):
            if event["kind"] == "join":
                assert event["status"] == "ok"
                self._joined(event["response"])
            elif event["event"] == "edited":
                self._edited(event["payload"])

    def _joined(self, response: Any) -> None:
        position = response["_position"]
        assert position.startswith(f"{self._epoch}:")
        if response["_recovered"]:
            assert offset_of(position) == self._offset
        else:
            self.excused |= set(range(self._offset + 1, offset_of(position) + 1))
        self.joins += 1
        self._offset = offset_of(position)

    def _edited(self, payload: Any) -> None:
        # The next one: so none is missing, none comes twice, and the order is that of the history.
        assert payload["_position"] == f"{self._epoch}:{self._offset + 1}"
        self._offset += 1
        self.got[self._offset] = payload["number"]

    def wait_for(self, state: Callable[[Reader], bool]) -> None:
        """Read until a state is reached."""

        def reached() -> bool:
            self._read()
            return state(self)

        wait_until(reached, lambda: str(vars(self)))

    def wait_for_joins(self, count: int) -> None:
        self.wait_for(lambda reader: reader.joins == count)


def acknowledged(client: PhoenixJs, pushes: dict[int, int]) -> dict[int, int]:
    """The number of each edit of a client that was acknowledged to it, by its offset."""
    return {
        offset_of(reply["response"]["position"]): number
        for number, push in pushes.items()
        for reply in client.seen("reply", id=push, status="ok")
    }


def edits(client: PhoenixJs, count: int) -> list[int]:
    return [client.message(TOPIC, "edited")["number"] for _ in range(count)]


def edit(client: PhoenixJs, number: int, **more: str) -> int:
    """Make an edit and return its offset, once it is acknowledged."""
    status, response = client.request(TOPIC, EDIT, {"number": number, **more})
    assert status == "ok"
    return offset_of(response["position"])


def test_a_client_gets_what_it_missed_while_its_connection_was_cut(tmp_path: Path) -> None:
    # The latest phoenix.js alone: the 1.7 series does not come back from the close of its own side.
    with (
        served(tmp_path, 10_000) as server,
        connected(server.socket_url) as ann,
        connected(server.socket_url) as bob,
    ):
        for client in (ann, bob):
            status, response = client.join_durably(TOPIC)
            assert (status, response["_reason"]) == ("ok", "new")
        edit(ann, 1)
        assert edits(bob, 1) == [1]
        bob.tell("cut")
        for number in (2, 3):
            edit(ann, number)
        _, response = bob.joined(TOPIC)
        assert response["_recovered"] is True
        edit(ann, 4)
        assert edits(bob, 3) == [2, 3, 4]
        # A push that is repeated with its key gets the first answer.
        assert edit(ann, 5, _key="k") == edit(ann, 5, _key="k")
        edit(ann, 6)
        assert edits(bob, 2) == [5, 6]
        assert bob.seen("message", topic=TOPIC, event="edited") == []


def test_a_client_that_missed_more_than_the_history_keeps_gets_the_reason(tmp_path: Path) -> None:
    with (
        served(tmp_path, 5) as server,
        connected(server.socket_url) as ann,
        connected(server.socket_url) as bob,
    ):
        reader = Reader(bob)
        ann.join_durably(TOPIC)
        first = edit(ann, 0)
        reader.wait_for(lambda bob: bob.got == {first: 0})
        bob.tell("disconnect")
        bob.expect("disconnected")
        missed = {edit(ann, number) for number in range(1, 8)}
        bob.tell("connect")
        reader.wait_for_joins(1)
        last = edit(ann, 8)
        reader.wait_for(lambda bob: bob.got == {first: 0, last: 8})
        assert reader.excused == missed


@pytest.mark.parametrize(
    ("package", "messages", "is_redis"),
    [
        ("phoenix", 10_000, False),
        ("phoenix-1.7", 20, False),
        # test_redis_history.py kills a node too.
        pytest.param("phoenix", 10_000, True, marks=pytest.mark.deep),
    ],
    ids=["SQLite", "SQLite that keeps few, and an earlier phoenix.js", "Valkey"],
)
def test_every_acknowledged_edit_reaches_every_client_once_and_in_order_over_kills(
    tmp_path: Path, package: str, messages: int, is_redis: bool
) -> None:
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(valkey(tmp_path / "valkey", SAFE)) if is_redis else None
        server = stack.enter_context(served(tmp_path, messages, database))
        readers = [
            Reader(stack.enter_context(connected(server.socket_url, package))) for _ in range(3)
        ]
        ann, bob = readers[0].client, readers[1].client
        pushes: dict[PhoenixJs, dict[int, int]] = {ann: {}, bob: {}}
        number = 0
        for kills in (1, 2):
            for _ in range(30):
                # Ann's page gives up a push without an answer. Bob's page repeats it with its key.
                number += 2
                pushes[ann][number - 1] = ann.push(TOPIC, EDIT, {"number": number - 1})
                pushes[bob][number] = bob.push_until_answered(
                    TOPIC, EDIT, {"number": number}, timeout=REPEAT_AFTER
                )
            # The kill comes in the middle of the appends: some answers have come, and others have not.
            some = number - 50
            wait_until(partial(bob.seen, "reply", id=pushes[bob][some]))
            server.kill()
            if database is not None:
                database.kill()
                database.start()
            server.start()
            for reader in readers:
                reader.wait_for_joins(kills)
        for push in pushes[bob].values():
            wait_until(partial(bob.seen, "reply", id=push))
        last = edit(ann, 0)
        acked = acknowledged(ann, pushes[ann]) | acknowledged(bob, pushes[bob])
        assert pushes[bob].keys() <= set(acked.values())
        for reader in readers:
            reader.wait_for(lambda reader: last in reader.got)
            for offset, sent in acked.items():
                assert reader.got.get(offset) == sent or offset in reader.excused
            if messages == 10_000:
                assert not reader.excused
                numbers = [*reader.got.values()]
                assert all(numbers.count(number) == 1 for number in pushes[bob])
                assert all(numbers.count(number) <= 1 for number in pushes[ann])
