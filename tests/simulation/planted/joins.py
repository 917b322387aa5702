"""Bugs in channels: joins that are answered twice or never, silent ends, and subscriptions that stay."""

from __future__ import annotations

from typing import Any

import trio

from actors import Pid, StartError
from channels import Channel, Endpoint, JoinRefused, Socket
from channels.laboratory.invariants import JoinsAnswered
from channels.protocol.session import Membership, Session
from channels.pubsub.local import SubscriptionTable
from channels.testing.case import open_channel_test
from channels.testing.client import ConnectionRefused
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.simulation.world.world import World
from tests.laws.memberships import MembershipsEnd
from tests.laws.scenarios import scenario
from tests.laws.subscriptions import SubscriptionsEnd
from tests.simulation.planted.planting import Planted, planted

__all__ = ["BUGS", "rooms"]

TOPICS = ("room:a", "room:b", "room:full")


class Room(Channel):
    """A channel that accepts joins slowly. It refuses joins to the full room."""

    async def join(self, topic: str, payload: Any) -> None:
        self.endpoint.pubsub.subscribe("news")
        await trio.sleep(payload["pause"])
        if topic == "room:full":
            raise JoinRefused({"reason": "full"})

    async def handle_in(self, event: str, payload: Any) -> None:
        """Ignore the message."""


class Members(Socket):
    """A socket that accepts every client."""

    channels = {"room:*": Room}


STORM = Storm(["*/Room", "*/TestSession"], count=8, within=6.0, kinds=("kill", "crash", "slow"))


async def rooms(world: World) -> None:
    """Three clients that join, leave, and join again before the answer arrives."""

    async def come_and_go(number: int) -> None:
        chance = world.random("client", number)
        while world.seconds < 6:
            try:
                client = await case.connect("/socket")
            except (ConnectionRefused, StartError):
                continue
            for _ in range(6):
                ref, topic = client.next_ref(), chance.choice(TOPICS)
                event = chance.choice(["phx_join", "phx_join", "phx_leave", "hello"])
                payload = {"pause": chance.choice([0, 0, 0.1, 1])}
                client.send_message(topic, event, payload, join_ref=ref, ref=ref)
                await trio.sleep(chance.choice([0, 0.05, 0.5]))
            # A fault may keep the client's task from ending.
            with trio.move_on_after(2):
                await client.disconnect()

    endpoint = Endpoint(sockets={"/socket": Members})
    async with open_channel_test(endpoint) as case:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(come_and_go, number)
        # Heal all faults before the case ends, because nothing can stop a hanging process.
        world.faults.heal()


_exited = Session.exited


def _joins_end_silently(self: Session, membership: Membership) -> object:
    if membership.status == "joining":
        membership.end()
    return _exited(self, membership)


@scenario(faults=STORM, invariants=("all", JoinsAnswered))
async def a_join_that_is_not_answered(world: World) -> None:
    with planted((Session, "exited", _joins_end_silently)):
        await rooms(world)


def _crashed_in_any_case(self: Session, membership: Membership) -> object:
    news = _exited(self, membership)
    if news is None and membership.topic == "room:full":
        # The channel ended without a phx_error, so it crashed before its join was complete.
        self.owner.send_frame(self._crashed_join(membership))
    return news


@scenario(faults=STORM, invariants=("all", JoinsAnswered))
async def a_join_that_is_answered_twice(world: World) -> None:
    with planted((Session, "exited", _crashed_in_any_case)):
        await rooms(world)


CHECKED = ("all", JoinsAnswered, MembershipsEnd, SubscriptionsEnd)


def _says_nothing(self: Session, membership: Membership) -> object:
    if membership.status in ("joined", "leaving") and not membership.is_replaced:
        membership.end()
    return _exited(self, membership)


@scenario(faults=STORM, invariants=CHECKED)
async def a_crash_that_the_client_does_not_learn_of(world: World) -> None:
    with planted((Session, "exited", _says_nothing)):
        await rooms(world)


def _drop_the_first(self: SubscriptionTable, pid: Pid) -> None:
    topics = {
        each.topic: None
        for topic in self.topics()
        for each in self.subscribers(topic)
        if each.pid is pid
    }
    for topic in list(topics)[:1]:
        self.remove(pid, topic)


@scenario(faults=STORM, invariants=CHECKED)
async def a_second_topic_that_stays(world: World) -> None:
    with planted((SubscriptionTable, "remove_process", _drop_the_first)):
        await rooms(world)


BUGS = (
    Planted(
        name="a client does not learn that its joined channel has crashed",
        scenario=a_crash_that_the_client_does_not_learn_of,
        failure="invariant memberships_end",
        first_seed=12,
    ),
    Planted(
        name="a crashed process stays subscribed to its second topic",
        scenario=a_second_topic_that_stays,
        failure="invariant subscriptions_end",
    ),
    Planted(
        name="a join that crashes is not answered",
        scenario=a_join_that_is_not_answered,
        failure="invariant joins_answered",
    ),
    Planted(
        name="a join that was refused is answered once more",
        scenario=a_join_that_is_answered_twice,
        failure="invariant joins_answered",
    ),
)
