"""Presence sets agree whatever the network does, and stay as small as their members.

The nodes of `tests.channels.presence.worlds` track, end, restart, and lose, repeat and reorder messages.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from channels.presence.clock import Version
from channels.presence.delta import Delta, Part, Segment
from channels.presence.state import State
from channels.presence.wire import encode_clocks, encode_delta
from tests.channels.presence.worlds import (
    DOWN,
    KEYS,
    OWNERS,
    PERMDOWN,
    TOPICS,
    World,
    content,
)

Action = Callable[[World, random.Random], None]


def a_node(world: World, chance: random.Random) -> str:
    return chance.choice(list(world.nodes) or list(world.names))


def track(world: World, chance: random.Random) -> None:
    name = a_node(world, chance)
    if name in world.nodes:
        world.track(name, chance.choice(TOPICS), chance.choice(KEYS), chance.choice(OWNERS))


def untrack(world: World, chance: random.Random) -> None:
    name = a_node(world, chance)
    if name in world.nodes:
        world.untrack(name, chance.choice(TOPICS), chance.choice(KEYS), chance.choice(OWNERS))


def untrack_owner(world: World, chance: random.Random) -> None:
    name = a_node(world, chance)
    if name in world.nodes:
        world.untrack_owner(name, chance.choice(OWNERS))


def beat(world: World, chance: random.Random) -> None:
    name = a_node(world, chance)
    if name in world.nodes:
        world.beat(name)


def request(world: World, chance: random.Random) -> None:
    name = a_node(world, chance)
    if name in world.nodes:
        world.request(name, chance.choice(world.names))


def deliver(world: World, chance: random.Random) -> None:
    if world.mail:
        world.deliver(chance.randrange(len(world.mail)))


def lose(world: World, chance: random.Random) -> None:
    if world.mail:
        world.mail.pop(chance.randrange(len(world.mail)))


def repeat(world: World, chance: random.Random) -> None:
    if world.mail:
        world.mail.append(chance.choice(world.mail))


def restart(world: World, chance: random.Random) -> None:
    world.start(chance.choice(world.names))


def renew(world: World, chance: random.Random) -> None:
    name = a_node(world, chance)
    if name in world.nodes:
        world.renew(name)


def crash(world: World, chance: random.Random) -> None:
    world.nodes.pop(chance.choice(world.names), None)


def goodbye(world: World, chance: random.Random) -> None:
    name = chance.choice(world.names)
    if name in world.nodes:
        world.goodbye(name)


def wait(world: World, chance: random.Random) -> None:
    world.pass_time(chance.choice([1.0, 20.0, 40.0, PERMDOWN]))


MEMBERS: list[Action] = [track, track, untrack, untrack_owner]
NETWORK: list[Action] = [beat, beat, request, deliver, deliver, deliver, lose, repeat]
NODES: list[Action] = [restart, renew, crash, goodbye, wait]


def scripts(actions: list[Action], max_size: int = 60) -> st.SearchStrategy[list[Action]]:
    """Scripts of which most are long, but which can shrink to nothing."""
    several = st.sampled_from(actions)
    long = st.lists(several, min_size=max_size // 2, max_size=max_size)
    return long | st.lists(several, max_size=max_size)


SEEDS = st.integers(0, 2**32)

# Members that come and go on a poor network, and nodes that come and go while messages are late.
EVERYTHING = scripts([*MEMBERS * 2, *NETWORK * 3, *NODES]) | scripts(
    [track, beat, beat, deliver, deliver, repeat, request, *NODES]
)


@given(EVERYTHING, SEEDS)
def test_nodes_that_have_exchanged_everything_agree_with_the_model(
    script: list[Action], seed: int
) -> None:
    world, chance = World(), random.Random(seed)
    for action in script:
        action(world, chance)
        world.check()
    world.settle()
    world.check()
    for node in world.nodes.values():
        assert node.seen() == world.expected()


@given(EVERYTHING, SEEDS)
def test_nodes_that_have_exchanged_everything_show_the_metas_of_a_key_in_one_order(
    script: list[Action], seed: int
) -> None:
    world, chance = World(), random.Random(seed)
    for action in script:
        action(world, chance)
        for node in world.nodes.values():
            assert all(refs == sorted(refs) for refs in node.order().values())
    world.settle()
    orders = [node.order() for node in world.nodes.values()]
    assert all(order == orders[0] for order in orders)


@given(EVERYTHING, SEEDS)
def test_a_removed_entry_never_comes_back(script: list[Action], seed: int) -> None:
    world, chance = World(), random.Random(seed)
    # What each node has seen removed by its owner, which is not the same as hidden with its node.
    removed: dict[int, set[int]] = {}
    for action in script:
        before = {id(node): set(node.seen()) for node in world.nodes.values()}
        action(world, chance)
        for node in world.nodes.values():
            gone = removed.setdefault(id(node), set())
            seen = set(node.seen())
            assert gone.isdisjoint(number for *_, number in seen)
            clocks = node.state.clocks()
            for name, _, _, number in before.get(id(node), set()) - seen:
                version = clocks.get(name)
                if version is not None and version.clock > 0:
                    assert number not in world.truth[name, *version]
                    gone.add(number)


@given(scripts([track, untrack_owner, *NETWORK * 2]), SEEDS)
def test_an_update_never_shows_a_gap(script: list[Action], seed: int) -> None:
    world, chance = World(), random.Random(seed)
    place = (TOPICS[0], "always", "pid 9")
    since = {"a"}
    for action in script:
        world.track("a", *place)
        action(world, chance)
        for name, node in world.nodes.items():
            shown = len(node.snapshots.topic(place[0]).get(place[1]))
            assert shown == 1 or (shown == 0 and name not in since)
            if shown:
                since.add(name)


@st.composite
def readers(draw: st.DrawFn) -> list[State]:
    """Three sets that know the same nodes, after different messages of these in different orders."""
    chance = random.Random(draw(SEEDS))
    world = World()
    sets = [State("reader", 1) for _ in range(3)]
    for each in sets:
        for node in world.nodes.values():
            each.replica_up(node.state.node, node.state.incarnation)
    deltas: list[Delta] = []
    for action in draw(scripts([*MEMBERS], max_size=30)):
        action(world, chance)
        if chance.random() < 0.5:
            deltas += [node.state.flush() for node in world.nodes.values()]
    for each in sets:
        received = chance.choices(deltas, k=chance.randrange(2 * len(deltas))) if deltas else []
        if chance.random() < 0.7:
            received = deltas[: chance.randrange(len(deltas) + 1)] + received
        for delta in received:
            each.merge(delta)
    return sets


def nothing(state: State) -> dict[str, Version]:
    return {name: Version(each.incarnation, 0) for name, each in state.clocks().items()}


def joined(one: State, other: State) -> State:
    """A new set with what both have."""
    result = State("reader", 1)
    for name, version in one.clocks().items():
        result.replica_up(name, version.incarnation)
    assert not result.merge(one.extract(nothing(result))).gaps
    assert not result.merge(other.extract(result.clocks())).gaps
    return result


@given(readers())
def test_a_merge_is_commutative_associative_and_idempotent(sets: list[State]) -> None:
    a, b, c = sets
    assert content(joined(a, b)) == content(joined(b, a))
    assert content(joined(joined(a, b), c)) == content(joined(a, joined(b, c)))
    assert content(joined(a, a)) == content(a)
    assert content(joined(joined(a, b), b)) == content(joined(a, b))


@st.composite
def segments(draw: st.DrawFn) -> list[Segment]:
    """Consecutive changes of one node."""
    chance = random.Random(draw(SEEDS))
    world = World("a")
    found: list[Segment] = []
    for action in draw(scripts(MEMBERS, max_size=30)):
        action(world, chance)
        if chance.random() < 0.4:
            found += world.nodes["a"].state.flush().values()
    return found


@given(segments(), SEEDS)
def test_changes_together_have_the_effect_of_each_in_its_turn(
    found: list[Segment], seed: int
) -> None:
    if not found:
        return
    chance = random.Random(seed)
    known = chance.randrange(len(found))
    first = chance.randrange(known + 1)
    together = Part(found[first].incarnation, found[first].start)
    for segment in found[first:]:
        together.advance(segment)
    one_by_one, at_once = State("b", 1), State("b", 1)
    for state in (one_by_one, at_once):
        state.replica_up("a", found[0].incarnation)
        for segment in found[:known]:
            state.merge({"a": segment})
    for segment in found[known:]:
        one_by_one.merge({"a": segment})
    assert not at_once.merge({"a": together.segment()}).gaps
    assert content(at_once) == content(one_by_one)


# The size.


def encoded_size(state: State) -> int:
    """The bytes that a whole set takes on the wire, its clocks included."""
    everything = [encode_clocks(state.clocks()), encode_delta(state.extract(nothing(state)))]
    return len(msgspec.json.encode(everything))


def test_a_year_of_daily_deploys_leaves_the_size_of_the_members() -> None:
    """Five nodes are replaced one after the other each day. Half of the old ones crash instead of saying goodbye.

    Half of the new ones have a new name, as containers often do.
    """
    chance = random.Random(1)
    world = World("abcde")
    sizes = []
    for day in range(365):
        for place in range(5):
            deploy(world, f"{place}-{day:03}", chance)
            world.pass_time(DOWN * 0.9)
        statistics = next(iter(world.nodes.values())).state.statistics()
        # A crashed node with a name of its own is remembered for PERMDOWN.
        assert statistics.replicas <= 5 + PERMDOWN / (DOWN * 0.9)
        assert statistics.entries <= 2 * statistics.replicas
        assert statistics.recent <= 10 * statistics.replicas
        sizes.append(max(encoded_size(node.state) for node in world.nodes.values()))
        world.truth.clear()
    # Incarnations and numbers get more digits in the first weeks.
    assert max(sizes[-100:]) <= max(sizes[100:200]) + 20
    world.settle()
    for node in world.nodes.values():
        assert node.seen() == world.expected()
        assert node.state.statistics().replicas == 5


def deploy(world: World, new: str, chance: random.Random) -> None:
    """Replace the oldest node by a new one, which tracks, updates and untracks."""
    old = next(iter(world.nodes))
    name = new if chance.random() < 0.5 else old
    world.names = [*(each for each in world.names if each != old), name]
    if chance.random() < 0.5:
        world.goodbye(old)
    else:
        del world.nodes[old]
    world.start(name)
    for key in (*KEYS, *KEYS):
        world.track(name, TOPICS[0], key, "pid 1")
    world.untrack(name, TOPICS[0], KEYS[0], "pid 1")
    for each in world.nodes:
        world.beat(each)
    world.deliver_all()
    world.request(name, chance.choice(list(world.nodes)[:-1]))
    world.deliver_all()
