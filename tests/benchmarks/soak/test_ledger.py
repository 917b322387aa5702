"""`ledger`: the fate of each message, by examples with one topic and few clients."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.benchmarks.soak.ledger import (
    AWAY,
    COUNTED,
    HEARD,
    NOT_KNOWN,
    NOT_SENT,
    UNCOUNTED,
    Copy,
    Delivery,
    Said,
    Scrape,
    Stay,
    account,
    account_copies,
    presence_differences,
)

WEB, API = 1, 2


def said(number: int, sent: float, sender: str = "ann", node: int = WEB) -> Said:
    """Return a message with a reply a tenth of a second later."""
    return Said("room", (sender, number), node, sent, sent + 0.1)


def stay(client: str, node: int, *numbers: int, **options: Any) -> Stay:
    """Return a stay from the beginning in which a client heard messages of ann, sent each second."""
    found = Stay(client, "room", node, options.pop("joined", 0.0), **options)
    for number in numbers:
        found.hear(("ann", number), number + 0.2)
    return found


def fate_of_last(
    bob: Stay | Sequence[Stay],
    *,
    others: Sequence[Stay] = (),
    lost: Mapping[float, float] | None = None,
    killed: Mapping[int, float] | None = None,
    outages: Sequence[tuple[float, float]] = (),
    node: int = WEB,
    count: int = 20,
) -> str:
    """Return the fate, at bob, of the last of the messages that ann sends each second."""
    messages = [said(number, float(number), node=node) for number in range(1, count + 1)]
    earlier = account(
        messages[:-1],
        [*([bob] if isinstance(bob, Stay) else bob), *others],
        {API: [Scrape(*each) for each in (lost or {}).items()]},
        killed or {},
        outages,
    )
    whole = account(
        messages,
        [*([bob] if isinstance(bob, Stay) else bob), *others],
        {API: [Scrape(*each) for each in (lost or {}).items()]},
        killed or {},
        outages,
    )
    difference = whole.accounts["bob"].fates - earlier.accounts["bob"].fates
    (fate,) = difference
    return fate


ALL_BUT_20 = range(1, 20)


def test_a_message_that_arrived_is_heard() -> None:
    assert fate_of_last(stay("bob", API, *range(1, 21))) == HEARD


def test_a_message_that_no_counter_admits_is_uncounted() -> None:
    bob = stay("bob", API, *ALL_BUT_20)
    assert fate_of_last(bob, lost={15.0: 0.0, 30.0: 0.0}) == UNCOUNTED


def test_a_message_that_its_node_has_counted_is_admitted() -> None:
    bob = stay("bob", API, *ALL_BUT_20)
    assert fate_of_last(bob, lost={15.0: 0.0, 30.0: 1.0}) == COUNTED


def test_a_loss_that_was_counted_at_another_time_admits_nothing() -> None:
    bob = stay("bob", API, *ALL_BUT_20)
    assert fate_of_last(bob, lost={15.0: 9.0, 30.0: 9.0}) == UNCOUNTED


def test_two_missed_messages_need_two_counted_losses() -> None:
    bob = stay("bob", API, *range(1, 19))
    messages = [said(number, float(number)) for number in range(1, 21)]
    found = account(messages, [bob], {API: [Scrape(15, 0), Scrape(30, 1)]}, {}, [])
    assert found.accounts["bob"].fates == {HEARD: 18, UNCOUNTED: 2}
    assert [(each.missed, each.counted) for each in found.comparisons] == [(2, 1)]


def test_a_message_that_two_clients_of_a_node_missed_is_one_loss_of_the_node() -> None:
    bob = stay("bob", API, *ALL_BUT_20)
    cem = stay("cem", API, *ALL_BUT_20)
    assert fate_of_last(bob, others=[cem], lost={15.0: 0.0, 30.0: 1.0}) == COUNTED


def test_no_counter_admits_a_message_that_another_client_of_the_node_has() -> None:
    bob = stay("bob", API, *ALL_BUT_20)
    cem = stay("cem", API, *range(1, 21))
    assert fate_of_last(bob, others=[cem], lost={15.0: 0.0, 30.0: 9.0}) == UNCOUNTED


def test_no_counter_admits_a_message_of_the_clients_own_node() -> None:
    bob = stay("bob", API, *ALL_BUT_20)
    assert fate_of_last(bob, node=API, lost={15.0: 0.0, 30.0: 9.0}) == UNCOUNTED


def test_a_client_that_is_away_misses_messages_without_a_counter() -> None:
    assert fate_of_last(stay("bob", API, *ALL_BUT_20, left=19.5)) == AWAY
    assert fate_of_last(stay("bob", API, *ALL_BUT_20, left=20.5)) == AWAY
    assert fate_of_last(stay("bob", API, joined=20.5)) == AWAY


def test_a_message_that_came_during_the_next_stay_is_heard() -> None:
    first = stay("bob", API, *ALL_BUT_20, left=19.9)
    assert fate_of_last([first, stay("bob", API, 20, joined=20.01)]) == HEARD


def test_a_node_that_is_killed_takes_its_last_messages_along() -> None:
    bob = stay("bob", API, *ALL_BUT_20)
    assert fate_of_last(bob, killed={WEB: 20.5}) == NOT_SENT
    assert fate_of_last(bob, killed={WEB: 25.0}) == UNCOUNTED


@pytest.mark.parametrize(
    ("count", "outages", "fate"),
    [
        (5, [], NOT_KNOWN),
        (15, [], UNCOUNTED),
        (15, [(8.0, 9.0)], NOT_KNOWN),
    ],
)
def test_nodes_know_each_other_soon_after_a_start_or_an_outage(
    count: int, outages: list[tuple[float, float]], fate: str
) -> None:
    ann = stay("ann", WEB)
    assert fate_of_last(stay("bob", API), others=[ann], outages=outages, count=count) == fate


def test_a_loss_after_the_first_message_of_a_node_needs_a_counter() -> None:
    assert fate_of_last(stay("bob", API, 1, 2), count=3) == UNCOUNTED


def test_a_repeated_and_a_late_message_are_noted() -> None:
    bob = stay("bob", API, 1, 3, 2, 2)
    assert (bob.doubled, bob.disordered) == ([("ann", 2)], [("ann", 2)])
    found = account([], [bob], {}, {}, [])
    assert (found.accounts["bob"].doubled, found.accounts["bob"].disordered) == (1, 1)


def copies(*heard: Sequence[int]) -> Delivery:
    """Return the accounts of clients with these messages of a topic with three messages."""
    found = Delivery()
    clients = []
    for name, numbers in zip(("bob", "cem"), heard, strict=False):
        clients.append(Copy(name, "room", joined=0.0))
        for number in numbers:
            clients[-1].hear(("ann", number))
    account_copies(found, [said(number, float(number)) for number in (1, 2, 3)], clients)
    return found


def test_a_complete_copy_has_no_fault() -> None:
    bob = copies([1, 2, 3]).accounts["bob"]
    assert bob.durable == 3
    assert (bob.durable_lost, bob.durable_doubled, bob.durable_disordered) == (0, 0, 0)


def test_a_lost_a_doubled_and_a_disordered_durable_message_are_found() -> None:
    assert copies([1, 3]).accounts["bob"].durable_lost == 1
    assert copies([1, 2, 2, 3]).accounts["bob"].durable_doubled == 1
    assert copies([1, 2, 3], [1, 3, 2]).accounts["cem"].durable_disordered == 2


def test_a_client_needs_no_message_from_before_its_first_join() -> None:
    found = Delivery()
    account_copies(found, [said(1, 1.0)], [Copy("bob", "room", joined=2.0), Copy("cem", "room")])
    assert [each.durable_lost for each in found.accounts.values()] == [0, 0]


def test_presences_must_be_exactly_the_joined_clients() -> None:
    joined = {"ann": 1, "bob": 2}
    good = {"ann": [1], "bob": [2]}
    assert presence_differences(joined, {"ann": good, "bob": good}) == []
    for wrong in (
        {"ann": [1]},
        {"ann": [1], "bob": [1]},
        {"ann": [1], "bob": [1, 2]},
        {**good, "cem": [1]},
    ):
        (text,) = presence_differences(joined, {"ann": good, "bob": wrong})
        assert text.startswith("bob sees ")
