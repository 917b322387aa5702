"""The data structure of links and watchers."""

from typing import Any, cast

import pytest

from actors import Pid
from actors._kernel.link_graph import LinkGraph


class Watch:
    def down(self, pid: Pid, reason: object) -> None:
        raise AssertionError("the graph tells nobody anything itself")


def pids(count: int) -> list[Pid]:
    return [Pid(number, cast("Any", None)) for number in range(1, count + 1)]


def is_empty(graph: LinkGraph, everybody: list[Pid]) -> bool:
    return not any(graph.links_of(one) or graph.watchers_of(one) for one in everybody)


def test_a_repeated_link_is_one_symmetric_link() -> None:
    graph, (a, b) = LinkGraph(), pids(2)
    graph.link(a, b)
    graph.link(b, a)
    graph.link(a, b)
    assert graph.linked(a, b)
    assert graph.linked(b, a)
    assert graph.links_of(a) == (b,)
    assert graph.unlink(b, a)
    assert not graph.linked(a, b)
    assert not graph.unlink(a, b)
    assert is_empty(graph, [a, b])


def test_a_link_with_oneself_is_not_stored() -> None:
    graph, (a,) = LinkGraph(), pids(1)
    graph.link(a, a)
    assert not graph.linked(a, a)
    assert is_empty(graph, [a])


def test_links_are_in_the_order_of_their_creation() -> None:
    graph, (a, b, c, d) = LinkGraph(), pids(4)
    for other in (c, b, d):
        graph.link(a, other)
    graph.link(a, c)  # no new link, so the order stays
    assert graph.links_of(a) == (c, b, d)
    assert graph.remove(a)[0] == (c, b, d)


def test_removing_a_process_returns_its_links_and_each_peer_keeps_its_side_until_unlink() -> None:
    graph, (a, b, c) = LinkGraph(), pids(3)
    first, second = Watch(), Watch()
    graph.link(a, b)
    graph.link(c, a)
    graph.link(b, c)
    graph.watch(a, second)
    graph.watch(a, first)
    assert graph.remove(a) == ((b, c), (second, first))
    assert graph.links_of(b) == (a, c)
    assert graph.unlink(b, a)
    assert not graph.unlink(b, a)
    assert graph.links_of(b) == (c,)
    assert not graph.linked(a, b)
    assert graph.watchers_of(a) == ()
    assert graph.remove(a) == ((), ())


def test_a_watcher_that_was_removed_is_not_told() -> None:
    graph, (a, b) = LinkGraph(), pids(2)
    watch = Watch()
    graph.watch(a, watch)
    graph.watch(a, watch)
    assert graph.watchers_of(a) == (watch,)
    assert not graph.unwatch(b, watch)
    assert graph.unwatch(a, watch)
    assert not graph.unwatch(a, watch)
    assert graph.remove(a) == ((), ())


@pytest.mark.parametrize("count", [10, 100])
def test_the_graph_is_empty_when_all_processes_have_ended(count: int) -> None:
    graph, everybody = LinkGraph(), pids(count)
    for index, one in enumerate(everybody):
        for other in everybody[index::3]:
            graph.link(one, other)
        graph.watch(one, Watch())
    assert all(graph.links_of(one) and graph.watchers_of(one) for one in everybody)
    for one in everybody:
        for peer in graph.remove(one)[0]:
            graph.unlink(peer, one)
    assert is_empty(graph, everybody)
