"""A bank that must not lose money while faults kill its processes.

    ashtree simulate examples.scenarios.bank:a_day_of_transfers --seeds 1-200

Only the journal survives a crash. The accounts compute their balances from it. So a restart of the ledger also restarts
the accounts and the tellers (`rest_for_one`). A customer without an answer repeats the transfer. Each transfer has a
number, so the ledger makes it only once.
"""

from __future__ import annotations

from collections import Counter

import trio
from attrs import frozen

from actors import CallExit, GenServer, Reply, Sender, call
from supervision import Supervisor, child_spec
from supervision.chaos import Storm
from supervision.simulation import World, scenario

__all__ = ["Transfer", "a_day_of_transfers"]

PEOPLE = ("Ada", "Ben", "Cleo", "Dan")
AT_FIRST = 100


@frozen
class Transfer:
    """A payment from one account to another."""

    number: str
    source: str
    target: str
    amount: int


Journal = dict[str, Transfer]
"""The transfers by their numbers. Like a disk, the journal outlives every process."""


class Ledger(GenServer[Journal]):
    """The process that reads and writes the journal."""

    async def init(self, journal: Journal) -> None:
        self.state = journal

    async def handle_call(self, request: Transfer | None, sender: Sender) -> Reply:
        await trio.sleep(0.01)
        if request is not None:
            self.state.setdefault(request.number, request)
        return Reply(list(self.state.values()))


class Accounts(GenServer[Counter[str]]):
    """The balances of all people. The process refuses a transfer that exceeds the balance."""

    async def init(self) -> None:
        self.state = balances(await call("ledger", None, timeout=1.0))

    async def handle_call(self, transfer: Transfer, sender: Sender) -> Reply:
        if self.state[transfer.source] < transfer.amount:
            return Reply("refused")
        # Write to the journal first, because only a transfer in the journal counts.
        self.state = balances(await call("ledger", transfer, timeout=1.0))
        return Reply("made")


class Teller(GenServer[int]):
    """A process that passes transfers on to the accounts."""

    async def init(self, name: str) -> None:
        self.state = 0
        self.name = name

    async def handle_call(self, transfer: Transfer, sender: Sender) -> Reply:
        self.state += 1
        return Reply(await call("accounts", transfer, timeout=2.0))


def balances(transfers: list[Transfer]) -> Counter[str]:
    """Return the balances of all people after these transfers."""
    found = Counter(dict.fromkeys(PEOPLE, AT_FIRST))
    for transfer in transfers:
        found[transfer.source] -= transfer.amount
        found[transfer.target] += transfer.amount
    return found


async def pay(world: World, person: str, answers: dict[str, str]) -> None:
    """Send money to others as a customer, and repeat each transfer until there is an answer."""
    stream = world.random("payments of", person)
    for number in range(world.params["payments"]):
        await trio.sleep(stream.expovariate(1.0))
        transfer = Transfer(
            f"{person} {number}", person, stream.choice(PEOPLE), stream.randrange(1, 40)
        )
        for attempt in range(world.params["attempts"]):
            teller = stream.choice(("north", "south"))
            try:
                answers[transfer.number] = await call(teller, transfer, timeout=5.0)
                world.sometimes("a transfer is refused", answers[transfer.number] == "refused")
                world.sometimes("a transfer is asked for again", attempt)
                break
            except CallExit:
                await trio.sleep(0.5)


@scenario(
    faults=Storm(
        ["/bank/*"],
        count=10,
        after=0.5,
        within=20.0,
        # Inject no faults into callbacks: a fault during the first start would end the bank.
        callbacks=0.0,
        kinds=["kill", "crash", "slow", "drop_message", "delay_message", "duplicate_message"],
    ),
    params={"payments": 8, "attempts": 20},
)
async def a_day_of_transfers(world: World) -> None:
    """Four people pay each other while faults hit the processes of the bank."""
    journal: Journal = {}
    answers: dict[str, str] = {}

    def nothing_is_owed() -> str | None:
        poor = [person for person, money in balances(list(journal.values())).items() if money < 0]
        return f"{poor} have less than nothing" if poor else None

    world.invariant("nobody has less than nothing", nothing_is_owed)
    await Supervisor.start_link(
        [
            child_spec(Ledger, journal, kwargs={"name": "ledger"}),
            child_spec(Accounts, kwargs={"name": "accounts"}),
            child_spec(Teller, "north", kwargs={"name": "north"}),
            child_spec(Teller, "south", kwargs={"name": "south"}),
        ],
        strategy="rest_for_one",
        max_restarts=100,
        label="bank",
    )
    async with trio.open_nursery() as nursery:
        for person in PEOPLE:
            nursery.start_soon(pay, world, person, answers)
    lost = [
        number for number, answer in answers.items() if answer == "made" and number not in journal
    ]
    world.check(not lost, f"{lost} were confirmed but are not in the journal")
