"""The suite of tests/contracts/test_redis_servers.py, on a real Valkey server: what simulations run on is like it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from channels.durable.redis_script import append_arguments, claim_arguments, read_arguments
from channels.durable.storage import NewAnswer, NewMessage
from channels.testing import SimulatedRedis
from tests.contracts import test_redis_servers as contract
from tests.contracts.test_redis_servers import Client, History, Start, connected
from tests.integration.valkey import Valkey, valkey

# The tests only, and not their fixtures, which have a server in memory.
globals().update({name: each for name, each in vars(contract).items() if name.startswith("test_")})


class Real:
    """A server on a port."""

    def __init__(self, started: Valkey) -> None:
        self._started = started

    async def connect(self) -> trio.abc.Stream:
        # A small buffer from the beginning, so that what a client does not read soon waits in the server.
        sock = trio.socket.socket()
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 65536)
        await sock.connect(("127.0.0.1", self._started.port))
        return trio.SocketStream(sock)

    async def restart(self) -> None:
        await trio.to_thread.run_sync(self._started.kill)
        await trio.to_thread.run_sync(self._started.start)

    def pause(self) -> None:
        self._started.stop()

    def resume(self) -> None:
        self._started.cont()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    with valkey(tmp_path_factory.mktemp("valkey")) as started:
        yield Real(started)


@pytest.fixture
def server(shared: Real) -> Real:
    return shared


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        async def started(
            password: str | None = None,
            max_output_bytes: int | None = None,
            appendonly: bool = False,
        ) -> Real:
            config = {} if password is None else {"requirepass": password}
            config |= {"appendonly": "yes" if appendonly else "no", "appendfsync": "always"}
            if max_output_bytes is not None:
                limit = f"pubsub {max_output_bytes} {max_output_bytes} 0"
                config["client-output-buffer-limit"] = limit
            return Real(stack.enter_context(valkey(tmp_path, config)))

        yield started


@pytest.mark.parametrize("seed", range(5))
async def test_both_servers_answer_random_calls_of_the_script_alike(
    shared: Real, seed: int
) -> None:
    chance = random.Random(seed)
    history = History(
        f"random {seed}",
        max_messages=chance.choice([3, 100]),
        max_bytes=chance.choice([40, 10_000]),
        max_age=chance.choice([20.0, 1000.0]),
        max_topics=chance.choice([3, 100]),
        max_total_bytes=chance.choice([100, 100_000]),
        max_answers=chance.choice([3, 100]),
        max_answer_bytes=chance.choice([20, 10_000]),
        max_answer_age=chance.choice([20.0, 1000.0]),
        max_fences=chance.choice([2, 100]),
    )
    async with trio.open_nursery() as nursery:
        client, stream = trio.testing.memory_stream_pair()
        nursery.start_soon(SimulatedRedis().serve, stream)
        async with connected(shared) as one:
            other = Client(client)
            await other.ask("HELLO", 3)
            fences: dict[str, int] = {}
            for number in range(300):
                command = _random_call(chance, history, fences, number)
                assert await one.ask(*command) == await other.ask(*command), (number, command[2:])
        nursery.cancel_scope.cancel()


_VERBS = ("append", "claim", "read", "recall", "ends", "lose", "run")
_WEIGHTS = (50, 10, 30, 10, 10, 3, 1)


def _random_call(
    chance: random.Random, history: History, fences: dict[str, int], number: int
) -> tuple[str | int | bytes, ...]:
    topics = [chance.choice("abcdef") for _ in range(chance.randint(0, 4))]
    now = number + chance.uniform(-5, 5)
    match chance.choices(_VERBS, _WEIGHTS)[0]:
        case "append":
            wrong = chance.random() < 0.2
            batch = [
                NewMessage(
                    each,
                    "e" * chance.randint(0, 9),
                    b"{}",
                    chance.choice([None, "k", "l"]),
                    chance.choice([None, 1, 10**15]) if wrong else fences.get(each),
                )
                for each in topics
            ]
            answers = [NewAnswer(key, b"%d\n" % number) for key in chance.choice(["", "m", "mnk"])]
            channel = history.keys.channel
            arguments = append_arguments(batch, answers, history.limits, channel, now)
            return history.command("append", *arguments)
        case "claim":
            # The topics d to f have no owner. Sometimes a claim is sent again, or comes from another owner.
            topic = chance.choice("abc")
            fence = fences.get(topic, 10**15) + chance.choice([-1, 0, 1, 1, 1])
            fences[topic] = max(fence, fences.get(topic, 0))
            id = chance.choice([f"{topic}{fence}", str(number)])
            arguments = claim_arguments(topic, fence, history.limits, id, 60.0)
            return history.command("claim", *arguments)
        case "read":
            after, limit = chance.randint(0, number // 5 + 1), chance.randint(1, 20)
            arguments = read_arguments(chance.choice("abcdef"), after, limit, now - 20)
            return history.command("read", *arguments)
        case "recall":
            return history.command("recall", chance.choice("klmnx"), repr(now - 20))
        case "ends":
            return history.command("ends", *topics)
        case "lose":
            streams = [history.stream(f"e{n}", chance.choice("abc")) for n in range(1, number)]
            keys = history.keys
            single = [[keys.used], [keys.values], [keys.order], [keys.fences]]
            return ("DEL", *chance.choice([streams, *single]), "x")
    history.run = str(number)
    history.keeps = chance.random() < 0.5
    return "PING", "a new run"
