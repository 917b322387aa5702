"""Requests that reach another node than the one with their session: answers, losses, time limits and bounds."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from attrs import evolve, frozen

from actors import Runtime, kill, sys
from channels import Binary, Draining, Endpoint, LongPoll, Mount, PubSub
from channels.endpoint.endpoint import EndpointError
from channels.protocol.longpoll import MAX_LINES, PIECE, PIECES, relay_topic
from channels.telemetry import (
    CONNECTION_CLOSED,
    LONGPOLL_ANSWER_LOST,
    LONGPOLL_LEFT_OUT,
    LONGPOLL_NOT_FORWARDED,
    LONGPOLL_UNSENDABLE,
)
from channels.testing import JoinedNodes
from channels.transports.bodies import Bodies
from supervision import render
from tests.channels.polling import NDJSON, Poller, line, sessions
from tests.channels.rooms import UserSocket
from tests.channels.support import Footprint, Mailbox, Server, reply, settle

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SECRET = "the secret of all nodes"
FOUND = 2.0
"""The default of `pubsub_timeout`."""
WINDOW = 10.0


@frozen
class Pair:
    """Two nodes in one runtime. Sessions are on `a`."""

    nodes: JoinedNodes
    a: Server
    b: Server

    async def opened(self) -> tuple[Poller, Poller]:
        """Begin a session on a. Return its client, once asking a and once asking b."""
        there = await Poller(self.a).open()
        await there.join()
        return there, evolve(there, server=self.b)

    def lose(self, kind: str) -> None:
        """Lose the messages of one kind between the relays."""
        mark = f'"kind":"{kind}"'.encode()
        self.nodes.loses = lambda one, other, lane, data: mark in data

    def counts(self, which: Server) -> dict[tuple[str, ...], int]:
        counts: dict[tuple[str, ...], int] = which.endpoint.statistics()["counts"]
        return counts


Join = Callable[..., Awaitable[Pair]]


@pytest.fixture
async def join(runtime: Runtime) -> Join:
    """Start two nodes, with options of their endpoints."""

    async def join(
        nodes: JoinedNodes | None = None,
        *,
        max_bytes: int = 1024 * 1024,
        longpolls: tuple[LongPoll, LongPoll] = (LongPoll(), LongPoll()),
        **options: Any,
    ) -> Pair:
        nodes = JoinedNodes() if nodes is None else nodes
        servers = []
        for name, longpoll in zip("ab", longpolls, strict=True):
            endpoint = Endpoint(
                sockets={"/socket": Mount(UserSocket, longpoll=longpoll)},
                pubsub=PubSub(nodes.adapter(name, max_bytes=max_bytes)),
                secret_key_base=SECRET,
                **options,
            )
            servers.append(Server(endpoint, runtime, await endpoint.start_link(port=None)))
        await settle()
        return Pair(nodes, *servers)

    return join


@pytest.fixture
async def pair(join: Join) -> Pair:
    return await join()


def said_by(asked: Any) -> dict[str, Any]:
    said = asked.said()
    assert said is not None, "there is no answer"
    return dict(said)


# The path of a request


async def test_a_post_and_a_poll_reach_the_session_on_another_node(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    assert await elsewhere.exchange(("1", "2", "room:a", "echo", {"text": "ä"})) == [
        reply("1", "2", "room:a", {"text": "ä"})
    ]
    assert (len(sessions(pair.a)), len(sessions(pair.b))) == (1, 0)
    assert pair.counts(pair.b) == {("longpoll", "forwarded"): 2}
    assert pair.counts(pair.a) == {("longpoll", "served"): 2}


async def test_answers_over_two_nodes_are_byte_for_byte_those_of_one(pair: Pair) -> None:
    here, elsewhere = await pair.opened()
    for body in (line(("1", "2", "room:a", "echo")), b"AAE", b"\xff"):
        one = await here.ask("POST", body, ("content-type", NDJSON))
        other = await elsewhere.ask("POST", body, ("content-type", NDJSON))
        # The clock of the machine goes on between the two.
        assert one.headers.pop("date")
        assert other.headers.pop("date")
        assert (one.status, one.body, one.headers) == (other.status, other.body, other.headers)
    one, other = await here.ask("GET"), await elsewhere.ask("POST", b"", token="none")
    assert other.body == b'{"status":410}'
    assert json.loads(one.body)["status"] == 200


async def test_a_held_poll_is_answered_when_a_message_comes(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    poll = await elsewhere.begin("GET")
    await trio.sleep(WINDOW - 1)
    assert poll.answer() is None
    pair.a.endpoint.broadcast("room:a", "new", {"n": 1})
    await settle()
    said = said_by(poll)
    assert (said["status"], said["token"]) == (200, elsewhere.token)
    assert [json.loads(each)[4] for each in said["messages"]] == [{"n": 1}]


async def test_a_poll_without_a_message_is_204_after_the_window(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    poll = await elsewhere.begin("GET")
    await trio.sleep(WINDOW - 0.1)
    assert poll.answer() is None
    await trio.sleep(0.2)
    assert said_by(poll) == {"messages": [], "status": 204, "token": elsewhere.token}


async def test_polls_through_another_node_keep_a_session_alive(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    for _ in range(5):
        await elsewhere.begin("GET")
        await trio.sleep(WINDOW + 0.1)
    assert len(sessions(pair.a)) == 1


async def test_a_session_that_has_ended_is_410_without_delay(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    (session,) = sessions(pair.a)
    kill(session)
    await settle()
    assert await elsewhere.post(line(("1", "2", "room:a", "echo"))) == 410
    said = await elsewhere.get()
    assert (said["status"], said["token"] != elsewhere.token) == (410, True)
    assert (len(sessions(pair.a)), len(sessions(pair.b))) == (0, 1)


async def test_a_session_that_ends_while_it_is_polled_is_204_and_then_410(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    poll = await elsewhere.begin("GET")
    (session,) = sessions(pair.a)
    kill(session)
    await settle()
    assert said_by(poll)["status"] == 204
    assert (await elsewhere.get())["status"] == 410


async def test_a_session_that_does_not_answer_in_time_counts_as_gone(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    (session,) = sessions(pair.a)
    await sys.suspend(session)
    poll = await elsewhere.begin("GET")
    await trio.sleep(FOUND + 0.1)
    assert said_by(poll)["status"] == 410


async def test_a_token_of_a_node_that_does_not_exist_is_410_after_the_time_to_find(
    pair: Pair, join: Join
) -> None:
    (strange,) = [await Poller((await join()).a).open()]
    heard = pair.b.listen(LONGPOLL_NOT_FORWARDED)
    pair.nodes.isolate("a")
    began = trio.current_time()
    poll = await evolve(strange, server=pair.b).begin("GET")
    post = await evolve(strange, server=pair.b).begin("POST", b"", ("content-type", NDJSON))
    await trio.sleep(FOUND + 0.01)
    assert said_by(poll)["status"] == 410
    assert said_by(post) == {"status": 410}
    assert trio.current_time() - began < FOUND + 0.1
    assert [about["node"] for _, about in heard] == ["a", "a"]
    assert "no sign of the session within 2 s" in heard[0][1]["problem"]


async def test_a_binary_message_is_500_on_every_node(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    pair.a.endpoint.broadcast("room:a", "blob", Binary(b"\xff"))
    await settle()
    answer = await elsewhere.ask("GET")
    assert (answer.status, answer.body) == (500, b"")
    assert pair.counts(pair.a)[LONGPOLL_UNSENDABLE] == 1
    pair.a.endpoint.broadcast("room:a", "new", {})
    assert await elsewhere.messages() == [[None, None, "room:a", "new", {}]]


async def test_messages_that_are_left_out_are_reported_by_the_node_of_the_session(
    pair: Pair,
) -> None:
    _, elsewhere = await pair.opened()
    heard = pair.a.listen(LONGPOLL_LEFT_OUT)
    assert await elsewhere.send(*[("1", "2", "room:a", "echo")] * (MAX_LINES + 5)) == 200
    assert [measured for measured, _ in heard] == [{"messages": 5}]
    assert len(await elsewhere.messages()) == MAX_LINES


async def test_the_relay_is_a_child_of_the_endpoint_only_where_there_are_other_nodes(
    pair: Pair,
) -> None:
    children = render(pair.a.pid, pids=False).splitlines()
    assert [each for each in children if each.startswith(("├── relay", "├── pubsub"))] == [
        "├── pubsub (one_for_one)",
        "├── relay",
    ]


# Messages between the nodes that are lost


@pytest.mark.parametrize("kind", ["poll", "found"])
async def test_a_lost_poll_begins_a_new_session_and_loses_no_message(pair: Pair, kind: str) -> None:
    here, elsewhere = await pair.opened()
    pair.lose(kind)
    poll = await elsewhere.begin("GET")
    await trio.sleep(FOUND + 0.1)
    said = said_by(poll)
    assert (said["status"], said["token"] != elsewhere.token) == (410, True)
    pair.a.endpoint.broadcast("room:a", "new", {"n": 1})
    assert await here.messages() == [[None, None, "room:a", "new", {"n": 1}]]


async def test_a_lost_post_is_410(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    pair.lose("post")
    post = await elsewhere.begin("POST", line(("1", "2", "room:a", "echo")))
    await trio.sleep(FOUND + 0.1)
    assert said_by(post) == {"status": 410}


async def test_a_lost_answer_to_a_post_is_408_after_the_window(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    heard = pair.b.listen(LONGPOLL_NOT_FORWARDED)
    pair.lose("answer")
    post = await elsewhere.begin("POST", line(("1", "2", "room:a", "echo")))
    await trio.sleep(WINDOW + FOUND - 0.1)
    assert post.answer() is None
    await trio.sleep(0.2)
    assert said_by(post) == {"status": 408}
    assert [about["problem"] for _, about in heard] == ["no answer within 12 s"]


async def test_a_batch_for_another_node_has_one_window_for_all_its_messages(join: Join) -> None:
    longpoll = LongPoll(window=1.0)
    pair = await join(JoinedNodes(latency=0.1), longpolls=(longpoll, longpoll))
    _, elsewhere = await pair.opened()
    (session,) = sessions(pair.a)
    # Its second piece arrives after 0.3 s, because the other node asks for it.
    long = ("1", "2", "room:a", "echo", {"text": "x" * PIECE})
    batch = b"\n".join(map(line, (long, ("1", "3", "room:a", "echo"))))
    post = await elsewhere.begin("POST", batch, ("content-type", NDJSON))
    await trio.sleep(0.2)
    await sys.suspend(session)
    await trio.sleep(0.6)
    # Let it handle the first message only.
    await sys.resume(session)
    await sys.suspend(session)
    await trio.sleep(0.35)
    assert post.answer() is None
    await trio.sleep(0.1)
    assert said_by(post) == {"status": 408}
    await sys.resume(session)
    assert pair.counts(pair.b) == {("longpoll", "forwarded"): 1}


async def test_a_lost_answer_to_a_poll_ends_the_session_and_the_client_gets_a_new_one(
    pair: Pair,
) -> None:
    here, elsewhere = await pair.opened()
    heard, closed = pair.a.listen(LONGPOLL_ANSWER_LOST), pair.a.listen(CONNECTION_CLOSED)
    pair.lose("answer")
    poll = await elsewhere.begin("GET")
    pair.a.endpoint.broadcast("room:a", "lost", {})
    await settle()
    pair.a.endpoint.broadcast("room:a", "later", {})
    beside = await here.begin("GET")
    await trio.sleep(FOUND - 0.1)
    assert (poll.answer(), beside.answer()) == (None, None), "nobody gets a later message first"
    await trio.sleep(0.2)
    assert said_by(poll)["status"] == 410
    assert said_by(beside)["status"] == 204
    assert (await here.get())["status"] == 410
    assert [measured for measured, _ in heard] == [{"messages": 1}]
    assert [about["cause"] for _, about in closed] == [
        "another node did not confirm messages for the client"
    ]
    assert pair.counts(pair.a)[LONGPOLL_ANSWER_LOST] == 1


async def test_a_lost_confirmation_ends_the_session_and_repeats_nothing(pair: Pair) -> None:
    here, elsewhere = await pair.opened()
    pair.lose("delivered")
    pair.a.endpoint.broadcast("room:a", "new", {"n": 1})
    assert await elsewhere.messages() == [[None, None, "room:a", "new", {"n": 1}]]
    poll = await here.begin("GET")
    assert poll.answer() is None
    await trio.sleep(FOUND + 0.1)
    assert said_by(poll)["status"] == 204
    assert (await here.get())["status"] == 410


async def test_a_netsplit_during_a_poll_leaves_no_gap(pair: Pair) -> None:
    here, elsewhere = await pair.opened()
    poll = await elsewhere.begin("GET")
    pair.nodes.cut("a", "b")
    pair.a.endpoint.broadcast("room:a", "lost", {})
    await trio.sleep(WINDOW + FOUND + 0.1)
    assert said_by(poll)["status"] == 204, "node b knows nothing of the session any more"
    pair.nodes.heal()
    assert (await elsewhere.get())["status"] == 410
    assert (await here.get())["status"] == 410


async def test_no_other_poll_gets_messages_before_the_last_ones_are_confirmed(
    join: Join,
) -> None:
    pair = await join(JoinedNodes(latency=0.5))
    here, elsewhere = await pair.opened()
    pair.a.endpoint.broadcast("room:a", "new", {"n": 1})
    one = await elsewhere.begin("GET")
    await trio.sleep(0.6)
    pair.a.endpoint.broadcast("room:a", "new", {"n": 2})
    other = await here.begin("GET")
    assert other.answer() is None
    await trio.sleep(1.1)
    assert [json.loads(each)[4] for each in said_by(one)["messages"]] == [{"n": 1}]
    assert [json.loads(each)[4] for each in said_by(other)["messages"]] == [{"n": 2}]


class Client:
    """A client that polls without a pause, by turns on one node and the other, and joins in each session.

    Attributes:
        heard: for each session the numbers of the ticks that came.
    """

    def __init__(self, pair: Pair) -> None:
        self.heard: list[list[int]] = []
        self._servers = pair.a, pair.b
        self._requests = 0
        self._tokens: list[str] = []

    async def run(self) -> None:
        while True:
            said = await self.ask("GET")
            if said["status"] == 410:
                self._tokens.append(said["token"])
                self.heard.append([])
                await self.ask("POST", line(("1", "1", "room:a", "phx_join")))
            for message in map(json.loads, said["messages"]):
                if message[3] == "tick":
                    self.heard[-1].append(message[4]["n"])

    async def ask(self, method: str, body: bytes | None = None) -> dict[str, Any]:
        self._requests += 1
        poller = Poller(self._servers[self._requests % 2], tokens=self._tokens)
        kind = [] if body is None else [("content-type", NDJSON)]
        asked = await poller.begin(method, body, *kind)
        while (said := asked.said()) is None:  # noqa: ASYNC110 - the answer is bytes in memory, without an event
            await trio.sleep(0.25)
        return said


@pytest.mark.parametrize("seed", range(200 if DEEP else 3))
async def test_a_client_misses_nothing_within_a_session_whatever_is_lost(
    join: Join, seed: int
) -> None:
    dice = random.Random(seed)
    pair = await join(JoinedNodes(latency=0.05))
    pair.nodes.loses = lambda one, other, lane, data: (
        b"ashtree:longpoll" in data and dice.random() < 0.1
    )
    client = Client(pair)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        for number in range(200):
            pair.a.endpoint.broadcast("room:a", "tick", {"n": number})
            await trio.sleep(dice.random())
        nursery.cancel_scope.cancel()
    assert sum(map(len, client.heard)) > 20, "much arrives nevertheless"
    assert len(client.heard) > 1, "something was lost"
    for numbers in client.heard:
        assert numbers == [numbers[0] + index for index in range(len(numbers))]


# Clients that leave, and nodes that stop


@pytest.mark.parametrize("latency", [0.0, 0.5])
async def test_messages_for_a_client_that_has_left_another_node_wait_for_its_next_poll(
    join: Join, latency: float
) -> None:
    pair = await join(JoinedNodes(latency=latency))
    here, elsewhere = await pair.opened()
    poll = await elsewhere.begin("GET")
    await trio.sleep(2 * latency)
    poll.go()
    await settle()
    # With a latency, this is handed out to the poll whose client has left already.
    pair.a.endpoint.broadcast("room:a", "new", {"n": 1})
    await trio.sleep(3 * latency)
    assert await here.messages() == [[None, None, "room:a", "new", {"n": 1}]]
    assert pair.counts(pair.a).get(LONGPOLL_ANSWER_LOST, 0) == 0


async def test_a_node_that_drains_answers_forwarded_polls_and_the_session_lives_on(
    pair: Pair,
) -> None:
    here, elsewhere = await pair.opened()
    poll = await elsewhere.begin("GET")
    began = trio.current_time()
    await pair.b.stop()
    assert trio.current_time() == began
    assert said_by(poll)["status"] == 204
    pair.a.endpoint.broadcast("room:a", "new", {})
    assert await here.messages() == [[None, None, "room:a", "new", {}]]


async def test_a_poll_that_begins_while_its_node_drains_is_204_at_once(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    client = await pair.b.accept()
    client.write(elsewhere.request("POST", b""))
    await settle()
    assert client.answer() is not None
    pair.b.services.admission.draining = True
    client.write(elsewhere.request("GET"))
    await settle()
    answer = client.answer()
    assert answer is not None
    assert json.loads(answer.body)["status"] == 204
    pair.b.services.admission.draining = False


async def test_a_node_that_stops_ends_its_sessions_for_clients_of_other_nodes(join: Join) -> None:
    pair = await join(draining=Draining(timeout=5.0))
    _, elsewhere = await pair.opened()
    poll = await elsewhere.begin("GET")
    began = trio.current_time()
    await pair.a.stop()
    await settle()
    said = said_by(poll)
    assert (said["status"], said["messages"]) == (410, [])
    assert said["token"] != elsewhere.token, "the client has a session on the other node now"
    after = await elsewhere.begin("GET")
    await settle()
    assert said_by(after)["status"] == 410
    assert await elsewhere.send(("1", "2", "room:a", "echo")) == 410
    assert trio.current_time() == began, "no request waits for the node that has stopped"


async def test_a_request_on_its_way_to_a_node_that_stops_is_answered_at_once(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    pair.lose("poll")
    poll = await elsewhere.begin("GET")
    began = trio.current_time()
    await pair.a.stop()
    await settle()
    assert said_by(poll)["status"] == 410
    assert trio.current_time() == began


async def test_the_last_messages_of_a_session_reach_the_client_before_it_learns_of_the_stop(
    join: Join,
) -> None:
    # The answer and the goodbye arrive at the same moment.
    pair = await join(JoinedNodes(latency=0.01))
    await trio.sleep(1)
    _, elsewhere = await pair.opened()
    poll = await elsewhere.begin("GET")
    await trio.sleep(0.1)
    pair.a.endpoint.broadcast("room:a", "new", {"n": 1})
    await pair.a.stop()
    await trio.sleep(0.1)
    said = said_by(poll)
    assert said["status"] == 200
    assert [json.loads(each)[4] for each in said["messages"]] == [{"n": 1}]
    after = await elsewhere.begin("GET")
    await settle()
    assert said_by(after)["status"] == 410


async def test_a_node_that_has_stopped_and_starts_again_is_asked_again(
    join: Join, runtime: Runtime
) -> None:
    pair = await join()
    _, elsewhere = await pair.opened()
    await pair.a.stop()
    endpoint = pair.a.endpoint
    restarted = Server(endpoint, runtime, await endpoint.start_link(port=None))
    await settle()
    there = await Poller(restarted).open()
    await there.join()
    elsewhere = evolve(there, server=pair.b)
    assert await elsewhere.exchange(("1", "2", "room:a", "echo")) == [reply("1", "2", "room:a")]


async def test_a_client_misses_only_the_messages_of_a_few_round_trips_when_its_node_drains(
    join: Join,
) -> None:
    pair = await join(JoinedNodes(latency=0.01))
    await trio.sleep(1)
    _, elsewhere = await pair.opened()
    got: list[int] = []

    async def follow() -> None:
        client = elsewhere
        while True:
            poll = await client.begin("GET")
            while (said := poll.said()) is None:  # noqa: ASYNC110 - a response of this test has no event
                await trio.sleep(0.001)
            got.extend(
                each[4]["n"] for each in map(json.loads, said["messages"]) if each[3] == "new"
            )
            if said["status"] == 410:
                client = evolve(client, tokens=[said["token"]])
                await client.join()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        for number in range(400):
            if number == 100:
                nursery.start_soon(pair.a.stop)
            pair.b.endpoint.broadcast("room:a", "new", {"n": number})
            await trio.sleep(0.02)
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()
    missed = sorted(set(range(400)) - set(got))
    assert got == sorted(set(got))
    assert len(missed) <= 3, len(missed)


async def test_a_relay_that_is_killed_is_restarted_and_forwards_again(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    for server in (pair.a, pair.b):
        (relay,) = server.channels(relay_topic(server.endpoint.pubsub.node_name))
        kill(relay)
    await settle()
    assert await elsewhere.exchange(("1", "2", "room:a", "echo")) == [reply("1", "2", "room:a")]


async def test_nothing_is_left_of_forwarded_requests(pair: Pair) -> None:
    before = Footprint.of(pair.a.runtime)
    here, elsewhere = await pair.opened()
    await elsewhere.exchange(("1", "2", "room:a", "echo"))
    (await elsewhere.begin("GET")).go()
    await elsewhere.begin("GET")
    await here.begin("GET")
    pair.lose("answer")
    await elsewhere.begin("GET")
    await trio.sleep(60)
    assert Footprint.of(pair.a.runtime) == before


# Bodies in pieces


@pytest.mark.parametrize("size", [PIECE, PIECE + 1, 3 * PIECE, PIECES * PIECE + 5, 3_000_000])
async def test_long_bodies_travel_whole_both_ways(pair: Pair, size: int) -> None:
    _, elsewhere = await pair.opened()
    text = "".join(random.Random(size).choices('abcdefäß"\\', k=size // 2))
    assert await elsewhere.exchange(("1", "2", "room:a", "echo", {"text": text})) == [
        reply("1", "2", "room:a", {"text": text})
    ]


async def test_a_body_that_loses_a_piece_is_408(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    lost = [False]

    def second(one: str, other: str, lane: str, data: bytes) -> bool:
        is_it = b'"kind":"piece"' in data and f'"offset":{2 * PIECE}'.encode() in data
        lost[0] = lost[0] or is_it
        return is_it

    pair.nodes.loses = second
    text = "x" * (4 * PIECE)
    post = await elsewhere.begin("POST", line(("1", "2", "room:a", "echo", {"text": text})))
    await trio.sleep(WINDOW + 0.1)
    assert said_by(post) == {"status": 408}
    assert lost[0]


async def test_an_answer_that_loses_a_piece_ends_the_session(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    pair.lose("piece")
    pair.a.endpoint.broadcast("room:a", "new", {"text": "x" * (2 * PIECE)})
    poll = await elsewhere.begin("GET")
    await trio.sleep(FOUND + 0.1)
    assert said_by(poll)["status"] == 410
    assert sessions(pair.a) == []


# Bounds


async def test_forwarded_requests_are_bounded_and_there_is_room_again(join: Join) -> None:
    pair = await join(max_sessions=1)
    _, elsewhere = await pair.opened()
    heard = pair.b.listen(LONGPOLL_NOT_FORWARDED)
    polls = [await elsewhere.begin("GET") for _ in range(3)]
    answer = polls[2].answer()
    assert answer is not None
    assert (answer.status, answer.body) == (503, b"")
    assert [about["problem"] for _, about in heard] == ["2 forwarded requests wait already"]
    assert pair.counts(pair.b)[LONGPOLL_NOT_FORWARDED] == 1
    await trio.sleep(WINDOW + 0.1)
    assert [said_by(poll)["status"] for poll in polls[:2]] == [204, 204]
    assert (await elsewhere.begin("GET")).answer() is None


async def test_served_requests_are_bounded(join: Join, runtime: Runtime) -> None:
    nodes = JoinedNodes()
    pair = await join(nodes, max_sessions=1)
    third = Endpoint(
        sockets={"/socket": Mount(UserSocket, longpoll=True)},
        pubsub=PubSub(nodes.adapter("c")),
        secret_key_base=SECRET,
    )
    server = Server(third, runtime, await third.start_link(port=None))
    await settle()
    _, elsewhere = await pair.opened()
    heard = pair.a.listen(LONGPOLL_NOT_FORWARDED)
    for _ in range(2):
        await elsewhere.begin("GET")
    answer = await evolve(elsewhere, server=server).ask("GET")
    assert (answer.status, answer.body) == (503, b"")
    ((_, about),) = heard
    assert (about["node"], about["endpoint"]) == ("c", pair.a.endpoint)


async def test_the_node_of_the_session_limits_bodies_too(join: Join) -> None:
    pair = await join(longpolls=(LongPoll(max_body_bytes=1000), LongPoll()))
    _, elsewhere = await pair.opened()
    answer = await elsewhere.ask("POST", b"x" * 1001, ("content-type", NDJSON))
    assert (answer.status, answer.body) == (400, b"")


@pytest.mark.parametrize("direction", ["to the session", "to the client"])
async def test_bodies_of_other_nodes_count_towards_the_memory_for_bodies(
    join: Join, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    pair = await join()
    _, elsewhere = await pair.opened()
    full = [False]
    holding = Bodies.holding

    def nothing_fits(bodies: Bodies, size: int) -> Any:
        return holding(bodies, 2**60 if full[0] else size)

    monkeypatch.setattr(Bodies, "holding", nothing_fits)
    # The relays have taken the method already.
    pair = await join()
    here, elsewhere = await pair.opened()
    heard = pair.a.listen(LONGPOLL_NOT_FORWARDED)
    full[0] = True
    if direction == "to the session":
        answer = await elsewhere.ask("POST", b"{}", ("content-type", NDJSON))
    else:
        pair.a.endpoint.broadcast("room:a", "new", {"n": 1})
        answer = await elsewhere.ask("GET")
    assert (answer.status, answer.body) == (503, b"")
    assert "no memory for" in heard[0][1]["problem"]
    full[0] = False
    if direction == "to the client":
        assert await here.messages() == [[None, None, "room:a", "new", {"n": 1}]]


async def test_a_body_that_the_adapter_does_not_take_is_410_and_reported(join: Join) -> None:
    pair = await join(max_bytes=10_000)
    _, elsewhere = await pair.opened()
    heard = pair.b.listen(LONGPOLL_NOT_FORWARDED)
    text = "x" * 20_000
    assert await elsewhere.send(("1", "2", "room:a", "echo", {"text": text})) == 410
    assert "raise max_bytes" in heard[0][1]["problem"]


async def test_an_answer_that_the_adapter_does_not_take_ends_the_session(join: Join) -> None:
    pair = await join(max_bytes=10_000)
    here, elsewhere = await pair.opened()
    assert await here.send(("1", "2", "room:a", "echo", {"text": "x" * 20_000})) == 200
    assert (await elsewhere.get())["status"] == 410
    await trio.sleep(FOUND + 0.1)
    assert (await here.get())["status"] == 410


async def test_messages_that_no_relay_sends_are_counted_and_ignored(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    for message in (7, {"kind": "poll"}, {"kind": "answer", "id": "none"}, {"kind": "unknown"}):
        pair.a.endpoint.pubsub.broadcast(relay_topic("b"), message)
    pair.a.endpoint.broadcast(relay_topic("b"), "poll", {})
    for kind in ("found", "not_found", "delivered", "not_delivered"):
        pair.a.endpoint.pubsub.broadcast(relay_topic("b"), {"kind": kind, "id": "none"})
    await settle()
    assert pair.counts(pair.b)[("longpoll", "malformed")] == 5
    assert await elsewhere.exchange(("1", "2", "room:a", "echo")) == [reply("1", "2", "room:a")]


async def test_a_request_that_arrives_twice_is_served_once(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    poll = {"kind": "poll", "node": "b", "token": elsewhere.token, "find": 2, "window": 10}
    for _ in range(2):
        pair.b.endpoint.pubsub.direct_broadcast("a", relay_topic("a"), {**poll, "id": "once"})
    await settle()
    assert pair.counts(pair.a) == {("longpoll", "served"): 1}


async def test_a_node_reads_only_tokens_that_were_signed_with_its_secret(
    join: Join, runtime: Runtime
) -> None:
    pair = await join()
    _, elsewhere = await pair.opened()
    heard: list[bytes] = []

    def listen(one: str, other: str, lane: str, data: bytes) -> bool:
        heard.append(data)
        return False

    pair.nodes.loses = listen
    assert (await evolve(elsewhere, tokens=["forged"]).get())["status"] == 410
    forged = {"kind": "poll", "id": "x", "node": "b", "token": "forged", "find": 2, "window": 10}
    pair.b.endpoint.pubsub.direct_broadcast("a", relay_topic("a"), forged)
    await settle()
    relayed = [data for data in heard if b"longpoll" in data]
    assert [b"not_found" in data for data in relayed] == [False, True]


# Several endpoints on one node


async def test_two_endpoints_on_one_pubsub_do_not_deny_each_other_s_sessions(
    runtime: Runtime,
) -> None:
    nodes = JoinedNodes()
    shared = PubSub(nodes.adapter("a"))
    servers = []
    for pubsub in (shared, shared, PubSub(nodes.adapter("b"))):
        endpoint = Endpoint(
            sockets={"/socket": Mount(UserSocket, longpoll=True)},
            pubsub=pubsub,
            secret_key_base=SECRET,
        )
        servers.append(Server(endpoint, runtime, await endpoint.start_link(port=None)))
    await settle()
    for server in servers[:2]:
        poller = await Poller(server).open()
        elsewhere = evolve(poller, server=servers[2])
        await elsewhere.join(f"room:{id(server)}")


async def test_another_subscriber_of_the_topic_does_not_delay_a_410(pair: Pair) -> None:
    _, elsewhere = await pair.opened()
    spy = Mailbox()
    await spy.start(lambda: pair.a.endpoint.pubsub.subscribe(relay_topic("a")))
    kill(sessions(pair.a)[0])
    await settle()
    assert (await elsewhere.get())["status"] == 410
    assert [each["kind"] for each in spy.messages] == ["poll"]


# The secret


async def test_an_endpoint_that_polls_over_nodes_needs_a_secret(runtime: Runtime) -> None:
    endpoint = Endpoint(
        sockets={"/socket": Mount(UserSocket, longpoll=True)},
        pubsub=PubSub(JoinedNodes().adapter("a")),
    )
    with pytest.raises(
        EndpointError, match=r"the joined adapter .* write Endpoint\(secret_key_base="
    ):
        await endpoint.start_link(port=None)


async def test_an_endpoint_that_does_not_poll_needs_no_secret(runtime: Runtime) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, pubsub=PubSub(JoinedNodes().adapter("a")))
    pid = await endpoint.start_link(port=None)
    assert "relay" not in render(pid)
