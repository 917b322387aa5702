"""The table of subscriptions, as a value."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from channels.pubsub.local import SubscriptionTable

PIDS: list[Any] = [object() for _ in range(3)]
TOPICS = ["a", "b", "c"]


def topics_of(table: SubscriptionTable, pid: Any) -> list[str]:
    return [
        topic for topic in table.topics() for each in table.subscribers(topic) if each.pid is pid
    ]


def test_subscribers_are_listed_in_the_order_of_their_subscriptions() -> None:
    table = SubscriptionTable()
    for pid in (PIDS[1], PIDS[0], PIDS[1]):
        table.add(pid, "a", None)
    assert [each.pid for each in table.subscribers("a")] == [PIDS[1], PIDS[0], PIDS[1]]
    assert list(table.subscribers("b")) == []


def test_only_the_very_first_subscription_of_a_process_is_its_first() -> None:
    table = SubscriptionTable()
    assert [table.add(PIDS[0], topic, None)[1] for topic in "aab"] == [True, False, False]
    table.remove(PIDS[0], "a")
    table.remove(PIDS[0], "b")
    assert table.add(PIDS[0], "a", None)[1] is False
    table.remove_process(PIDS[0])
    assert table.add(PIDS[0], "a", None)[1] is True


def test_removing_drops_every_subscription_to_a_topic_and_none_is_no_error() -> None:
    table = SubscriptionTable()
    for topic in "aab":
        table.add(PIDS[0], topic, None)
    table.remove(PIDS[0], "a")
    table.remove(PIDS[0], "c")
    table.remove(PIDS[1], "a")
    assert topics_of(table, PIDS[0]) == ["b"]


def test_the_cost_of_a_subscription_does_not_grow_with_the_others_of_its_process() -> None:
    def cost(others: int) -> float:
        table, pid = SubscriptionTable(), PIDS[0]
        for number in range(others):
            table.add(pid, f"topic {number}", None)
        took = []
        for number in range(100):
            began = perf_counter()
            table.add(pid, f"later {number}", None)
            took.append(perf_counter() - began)
        return min(took)

    # A copy of 10,000 subscriptions takes over fifty times as long as one subscription.
    assert cost(10_000) < 10 * cost(10)


def test_a_subscription_shows_its_topic_and_metadata() -> None:
    subscription, _ = SubscriptionTable().add(PIDS[0], "a", "meta")
    assert (subscription.topic, subscription.metadata) == ("a", "meta")
    assert repr(subscription) == f"<subscription of {PIDS[0]!r} to 'a'>"


class TableMachine(RuleBasedStateMachine):
    """Against a list of pairs, in the order in which they were added."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SubscriptionTable()
        self.model: list[tuple[Any, str]] = []

    @rule(pid=st.sampled_from(PIDS), topic=st.sampled_from(TOPICS))
    def add(self, pid: Any, topic: str) -> None:
        self.table.add(pid, topic, None)
        self.model.append((pid, topic))

    @rule(pid=st.sampled_from(PIDS), topic=st.sampled_from(TOPICS))
    def remove(self, pid: Any, topic: str) -> None:
        self.table.remove(pid, topic)
        self.model = [each for each in self.model if each != (pid, topic)]

    @rule(pid=st.sampled_from(PIDS))
    def remove_process(self, pid: Any) -> None:
        self.table.remove_process(pid)
        self.model = [each for each in self.model if each[0] is not pid]

    @invariant()
    def same(self) -> None:
        for topic in TOPICS:
            expected = [pid for pid, its in self.model if its == topic]
            assert [each.pid for each in self.table.subscribers(topic)] == expected
        assert len(self.table) == len(self.model)
        assert set(self.table.topics()) == {topic for _, topic in self.model}


TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = settings(max_examples=50)
