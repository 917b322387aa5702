"""The user's class, and the key of a registry, name a process in the targets of faults, stories and figures."""

from __future__ import annotations

from typing import Any

import trio

from actors import GenServer, Registry
from channels import Channel, Endpoint, Route, Socket
from channels.client import open_socket
from channels.durable import DurableChannel, History, MemoryStorage
from supervision import Supervisor, child_spec
from supervision.chaos import At, Kill, On
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.story import tell
from supervision.laboratory.story.text import write_text
from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import measure
from supervision.recording.reader.story import tell_story
from supervision.simulation import World, simulate


class Hall(Channel):
    async def join(self, topic: str, payload: Any) -> None: ...


class AuctionChannel(DurableChannel):
    async def join(self, topic: str, payload: Any) -> None: ...


async def visit(world: World) -> None:
    """A client that stays in a plain and in a durable channel, and joins again when it has lost one."""
    history = History(MemoryStorage())

    class House(Socket):
        channels = {"hall": Hall, "auction:*": Route("auction:*", AuctionChannel, history=history)}

        def id(self) -> str:
            return "ann"

    endpoint = Endpoint(sockets={"/socket": House}, histories=[history], listen=world.network.open)
    await Supervisor.start_link([endpoint.child_spec(host="house", port=4000)], label="top")
    async with (
        open_socket("ws://house:4000/socket", connect=world.network.connect) as socket,
        socket.channel("hall", wait=False),
        socket.channel("auction:5", durable=True),
    ):
        await trio.sleep(5)


def test_the_class_of_a_durable_channel_is_a_target_of_faults() -> None:
    fault = Kill(target="*/AuctionChannel", when=At(1))
    outcome = simulate(visit, 1, faults=[fault]).check()
    (report,) = outcome.fault_reports
    assert (report.status, report.where) == (
        "applied",
        "/top/endpoint/House channels/0/AuctionChannel#1",
    )
    (measured,) = outcome_paths(outcome)
    assert measured == "/top/endpoint/House channels/*/AuctionChannel"


def outcome_paths(outcome: Outcome) -> list[str]:
    return [each.path for each in measure(read_history(outcome.trace)).paths]


def test_a_client_whose_join_crashed_is_back_when_it_has_joined() -> None:
    faults = [Kill(target="*/Hall", when=At(1)), Kill(target="*/Hall", when=On("init", nth=2))]
    outcome = simulate(visit, 1, faults=faults).check()
    killed, crashed = tell_story(outcome.trace).incidents
    assert [client.saw for client in killed.clients] == ["phx_error"]
    assert [client.saw for client in crashed.clients] == ["join crashed"]
    for incident in (killed, crashed):
        assert incident.recovery.not_rejoined == 0
        assert incident.steps[-1].text.startswith("ann was joined to hall again")


class Auction(GenServer[None]):
    """A server that a registry names."""


async def sale(world: World) -> None:
    lots = Registry[int, None]("unique", name="lots")
    children = [child_spec(Auction, kwargs={"name": lots.via(5)})]
    await Supervisor.start(children, label="house")
    await trio.sleep(2)
    raise RuntimeError("sold out")


def test_the_class_and_the_key_name_a_server_in_targets_and_in_both_stories() -> None:
    outcome = simulate(sale, 1, faults=[Kill(target="*/Auction 5", when=At(1))])
    assert [report.status for report in outcome.fault_reports] == ["applied"]
    restarted = "the supervisor /house started Auction 5 again, as /house/Auction 5#2"
    assert restarted in tell(outcome)
    assert restarted in write_text(tell_story(outcome.trace))
