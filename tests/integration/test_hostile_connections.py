"""A real server disconnects hostile clients, and serves a normal client at the same time.

The attacks are small versions of those of `make bench-hostile`. The limits of the server are about a second. The answer
to each attack shows which limit ended it. Other tests check the exact times on a virtual clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.benchmarks.hostile.__main__ import Figures, Friend
from tests.benchmarks.hostile.attacks import ATTACKS, LATE, attack, prepare
from tests.integration.impatient_server import HEAD_TIMEOUT
from tests.integration.servers import Server, serving
from tests.patience import until

# The outcome of each attack, and its number of clients.
CASES = {
    "a head, a byte a second": ({"408"}, 20),
    "nothing at all": ({"408"}, 100),
    "an upgrade to a path that does not exist": ({"404"}, 20),
    "a header of a megabyte": ({"431"}, 10),
    "a polling client's body, a byte a second": ({"408"}, 20),
    "a page's body, a byte a second": ({"404"}, 20),
    "a second head, a byte a second": ({"404"}, 20),
    "polls at the same moment": ({"200"}, 20),
    "most of a message of 10 MB": ({"closed with 1002"}, 5),
    "a gigabyte, compressed": ({"closed with 1009"}, 1),
    "ten messages of 10 MB, compressed": ({"closed with 1011"}, 1),
    "a flood of pongs": ({"closed with 1000"}, 3),
    "a flood of fragments": ({"closed with 1000"}, 3),
    "a flood of pings": ({"closed with 1000", "closed with 1013"}, 3),
    "two thousand joins of one topic": ({"closed with 1000"}, 1),
    "10 MB of JSON, three million lists": ({"closed with 1009"}, 1),
    "10 MB of JSON, numbers like 1e300": ({"closed with 1009"}, 1),
    "five times 10 MB of JSON with 49,000 lists": ({"closed with 1000"}, 1),
    "a hundred times 63 KB of JSON, 21,000 lists": ({"closed with 1000"}, 1),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    with serving("tests.integration.impatient_server", folder) as running:
        yield running


def files_of(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def test_every_attack_is_tried() -> None:
    assert CASES.keys() == ATTACKS.keys()


async def test_all_hostile_clients_are_disconnected_while_a_normal_one_is_served(
    server: Server,
) -> None:
    prepare()
    friend = Friend(server)
    before = Figures()
    before.look(server, friend)
    during = Figures()
    ends: dict[str, Counter[str]] = {}

    async def suffer(name: str, strangers: int) -> None:
        ends[name] = await attack(name, server.port, strangers, head_timeout=HEAD_TIMEOUT)

    async def look() -> None:
        while True:
            # In a thread, because it waits for the server and must not delay the clients.
            await trio.to_thread.run_sync(during.look, server, friend)
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        async with trio.open_nursery() as strangers:
            for name, (_, count) in CASES.items():
                strangers.start_soon(suffer, name, count)
        nursery.cancel_scope.cancel()
    friend.echo()
    friend.close()

    # On a busy machine, a client may be too slow for its attack. Then the server was right to close it.
    unexpected = {name: set(got) - CASES[name][0] - {LATE} for name, got in ends.items()}
    assert not any(unexpected.values()), unexpected
    assert {name: got.total() for name, got in ends.items()} == {
        name: count for name, (_, count) in CASES.items()
    }
    assert max(during.memory) - before.memory[0] < 400
    await until(lambda: files_of(server) <= before.files[0], lambda: f"{files_of(server)} files")
