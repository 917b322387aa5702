"""Whatever strangers do to a real server, it lets go of them in time, and a client that means well does not notice.

Small versions of what `make bench-hostile` measures, at a server whose limits are a second or so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.benchmarks.hostile.__main__ import Figures, Friend
from tests.benchmarks.hostile.attacks import ATTACKS, attack, prepare
from tests.integration.servers import Server, serving

# What each may get, how many there are, and the seconds after which the server must have let go of all.
CASES = {
    "a head, a byte a second": ({"408"}, 50, 4),
    "nothing at all": ({"408"}, 500, 5),
    "an upgrade to a path that does not exist": ({"404"}, 50, 4),
    "a header of a megabyte": ({"431"}, 10, 4),
    "a polling client's body, a byte a second": ({"408"}, 50, 4),
    "a page's body, a byte a second": ({"404"}, 50, 4),
    "a second head, a byte a second": ({"404"}, 50, 8),
    "HTTP/2 without a request": ({"no answer"}, 50, 8),
    "most of a message of 10 MB": ({"closed with 1002"}, 5, 10),
    "a gigabyte, compressed": ({"closed with 1009"}, 1, 8),
    "ten messages of 10 MB, compressed": ({"closed with 1011"}, 1, 15),
    "a flood of pongs": ({"closed with 1000"}, 3, 15),
    "a flood of fragments": ({"closed with 1000"}, 3, 15),
    "a flood of pings": ({"closed with 1000", "closed with 1013"}, 3, 15),
    "two thousand joins of one topic": ({"closed with 1000"}, 1, 15),
    "10 MB of JSON, three million lists": ({"closed with 1009"}, 1, 10),
    "10 MB of JSON, numbers like 1e300": ({"closed with 1009"}, 1, 10),
    "five times 10 MB of JSON with 49,000 lists": ({"closed with 1000"}, 1, 15),
    "a hundred times 63 KB of JSON, 21,000 lists": ({"closed with 1000"}, 1, 15),
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


async def test_all_of_them_at_once_are_let_go_of_in_time_and_a_friend_is_served(
    server: Server,
) -> None:
    prepare()
    friend = Friend(server)
    before = Figures()
    before.look(server, friend)
    during = Figures()
    ends: dict[str, Counter[str]] = {}
    took: dict[str, float] = {}

    async def suffer(name: str, strangers: int) -> None:
        begun = trio.current_time()
        ends[name] = await attack(name, server.port, strangers)
        took[name] = trio.current_time() - begun

    async def look() -> None:
        while True:
            during.look(server, friend)
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        async with trio.open_nursery() as strangers:
            for name, (_, count, _) in CASES.items():
                strangers.start_soon(suffer, name, count)
        nursery.cancel_scope.cancel()
    friend.echo()
    friend.close()

    assert ends.keys() == CASES.keys()
    surprises = {name: set(got) - CASES[name][0] for name, got in ends.items()}
    assert not any(surprises.values()), surprises
    # The attackers share this process and its processor, so there is something to spare.
    late = {name: took[name] for name, (*_, limit) in CASES.items() if took[name] > 2 * limit}
    assert late == {}
    assert max(during.memory) - before.memory[0] < 400
    for _ in range(120):
        if files_of(server) <= before.files[0]:
            return
        await trio.sleep(0.05)
    raise AssertionError(f"the server still has {files_of(server)} files")
