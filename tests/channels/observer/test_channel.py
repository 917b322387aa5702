"""The channel of an observer page: its messages to the page, and the actions that it allows."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import (
    CallExit,
    GenServer,
    Pid,
    Registry,
    Reply,
    Runtime,
    call,
    kill,
    receive,
    send,
    set_label,
    spawn,
    whereis,
)
from channels import Endpoint
from channels.entities import EntitySupervisor, LocalArbiter
from channels.observer import Observer
from channels.observer.access import Access
from channels.observer.elsewhere import ASK_SECONDS
from channels.observer.model import INTERNAL, Entry, Model
from channels.presence import Presence
from channels.pubsub.adapter import Node
from channels.pubsub.pubsub import PubSub
from channels.pubsub.workers.grants import Grants
from channels.testing import (
    ChannelTest,
    ConnectionRefused,
    JoinedNodes,
    open_channel_test,
)
from supervision import Supervisor, child_spec, process_spec
from tests.channels.entities.nodes import Counter
from tests.channels.observer.pages import PATH, Observe, Page, UserSocket, enter, open_page


async def test_a_page_shows_a_label_that_a_process_takes_late(observe: Observe) -> None:
    async def rename() -> None:
        await receive()
        set_label("the new label")
        await receive()

    page = await observe()
    pid = spawn(rename, label="the old label")
    row = await page.until_row("the old label")
    for _ in range(3):
        await page.tick()
    send(pid, "rename")
    assert (await page.until_row("the new label"))["key"] == row["key"]


async def test_an_observer_describes_a_process_once_however_often_it_changes_its_label(
    observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[str] = []
    describe = Model.describe

    def noting(model: Model, entry: Entry, label: str, kind: str | None) -> None:
        described.append(label)
        describe(model, entry, label, kind)

    async def rename() -> None:
        await receive()
        for number in range(1_000):
            set_label(f"label {number}")
        await receive()

    page = await observe()
    pid = spawn(rename, label="the old label")
    await page.until_row("the old label")
    for _ in range(3):
        await page.tick()
    monkeypatch.setattr(Model, "describe", noting)
    send(pid, "rename")
    await page.until_row("label 999")
    assert described.count("label 999") == 1


async def test_a_page_shows_a_channel_until_it_is_killed(observe: Observe) -> None:
    page = await observe(control=True)
    client, _, number = await enter(page.case)
    row = await page.until_row("RoomChannel 'room:lobby'")
    assert (row["pid"], row["type"], row["mailbox"]) == (number, "process", 0)
    answer = await page.ask("act", {"pid": number, "action": "kill"})
    assert answer.status == "ok"
    await page.until_gone(row["key"])
    await client.join("room:lobby")
    event = await page.until_event("returned")
    assert event["topic"] == "room:lobby"
    assert "A client has joined room:lobby again" in event["text"]


async def test_only_changes_are_sent(observe: Observe) -> None:
    page = await observe()
    for _ in range(4):
        await page.tick()
    tick = await page.tick()
    assert set(tick) == {"now", "point"}
    _, _, number = await enter(page.case)
    while "set" not in tick:
        tick = await page.tick()
    assert f"p{number}" in {row["key"] for row in tick["set"]}
    # The tick has the channel and its pool. A page gets nothing about unchanged processes.
    assert len(tick["set"]) <= 3


async def test_the_page_gets_a_crash_with_its_traceback(observe: Observe) -> None:
    page = await observe()
    _, room, number = await enter(page.case)
    room.push("crash")
    event = await page.until_event("crash")
    assert event["pid"] == number
    assert event["text"].endswith("crashed: RuntimeError: the crash button")
    answer = await page.ask("process", {"pid": number})
    assert answer.response["ended"] is True
    assert 'raise RuntimeError("the crash button")' in answer.response["crash"]["traceback"]


@pytest.mark.parametrize("ticket", [None, "", "wrong", 7])
async def test_a_socket_without_a_ticket_is_refused(
    observe: Observe, phoenix_js: Path, ticket: object
) -> None:
    page = await observe()
    with pytest.raises(ConnectionRefused):
        await page.case.connect(PATH, {} if ticket is None else {"ticket": ticket})
    other = Observer(phoenix_js=phoenix_js)
    with pytest.raises(ConnectionRefused):
        await page.case.connect(PATH, {"ticket": other.access.ticket()})


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        *[("act", {"action": action}) for action in ("kill", "exit", "suspend", "resume", "crash")],
        ("level", {"logger": "channels", "level": "DEBUG"}),
    ],
)
async def test_an_observer_without_control_allows_no_action(
    observe: Observe, event: str, payload: dict[str, Any]
) -> None:
    page = await observe()
    _, room, number = await enter(page.case)
    await page.until_row("RoomChannel 'room:lobby'")
    answer = await page.ask(event, {**payload, "pid": number})
    assert answer.status == "error"
    assert "read-only" in answer.response["reason"]
    await room.assert_reply(room.push("say"), "ok")


async def test_a_suspended_channel_handles_nothing_until_it_resumes(observe: Observe) -> None:
    page = await observe(control=True)
    _, room, number = await enter(page.case)
    row = await page.until_row("RoomChannel 'room:lobby'")
    await page.ask("act", {"pid": number, "action": "suspend"})
    ref = room.push("say")
    await room.refute_reply(ref)
    while page.rows[row["key"]]["status"] != "suspended":
        await page.tick()
    await page.ask("act", {"pid": number, "action": "resume"})
    await room.assert_reply(ref, "ok")


async def test_a_crash_on_the_next_message_waits_for_one(observe: Observe) -> None:
    page = await observe(control=True)
    _, room, number = await enter(page.case)
    await page.until_row("RoomChannel 'room:lobby'")
    await page.ask("act", {"pid": number, "action": "crash"})
    await room.refute_push("phx_error")
    room.push("say")
    await room.assert_push("phx_error")
    assert "CrashAsked" in (await page.until_event("crash"))["error"]


@pytest.mark.parametrize("payloads", [False, True])
async def test_payloads_are_shown_only_if_asked_for_and_never_filtered_keys(
    observe: Observe, payloads: bool
) -> None:
    page = await observe(payloads=payloads)
    _, room, number = await enter(page.case)
    await page.until_row("RoomChannel 'room:lobby'")
    await page.ask("process", {"pid": number})
    detail = await page.channel.assert_push("process", timeout=5)
    await room.assert_reply(room.push("say", {"words": "hello", "token": "xyzzy"}), "ok")
    while not detail["messages"]:
        detail = await page.channel.assert_push("process", timeout=5)
    text = repr(detail)
    assert "hunter2" not in text
    assert "xyzzy" not in text
    assert detail["messages"][0]["what"] == "say"
    assert ("hello" in text) is payloads
    assert ("state" in detail) is payloads
    assert ("zelda" in text) is payloads


class Auction(GenServer[int]):
    """A server that answers each bid, and crashes after a bid of 0."""

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        assert request[1] > 0
        return Reply("ok")


@pytest.fixture
async def auction(channel_test: Any, phoenix_js: Path) -> tuple[Page, Any, int]:
    """A page of an auction with the key 5, with payloads: the page, the auction's address, and its number."""
    lots = Registry[int, None]("unique", name="lots")
    observer = Observer(phoenix_js=phoenix_js, payloads=True)
    spec = child_spec(Auction, kwargs={"name": lots.via(5)})
    endpoint = Endpoint(sockets={"/socket": UserSocket}, observer=observer, children=[spec])
    page = await open_page(await channel_test(endpoint), observer)
    row = await page.until_row("Auction 5")
    await page.ask("process", {"pid": row["pid"]})
    return page, lots.via(5), row["pid"]


async def test_a_call_shows_the_request_itself(auction: tuple[Page, Any, int]) -> None:
    page, address, _ = auction
    await page.channel.assert_push("process", timeout=5)
    await call(address, ("bid", 7))
    detail: dict[str, Any] = {"messages": []}
    while len(detail["messages"]) < 2:
        detail = await page.channel.assert_push("process", timeout=5)
    taken, answered = ({**each, "t": 0} for each in detail["messages"])
    assert taken == {"t": 0, "kind": "received", "content": ["bid", 7]}
    assert answered == {"t": 0, "kind": "answered", "content": "ok"}


async def test_an_ended_process_says_so_and_links_its_newest_replacement(
    auction: tuple[Page, Any, int],
) -> None:
    page, address, number = auction
    await page.channel.assert_push("process", timeout=5)
    newest = number
    for _ in range(2):
        with pytest.raises(CallExit):
            await call(address, ("bid", 0))
        await trio.sleep(0.1)
        replacement = whereis(address)
        assert replacement is not None
        newest = replacement.number
    detail: dict[str, Any] = {}
    while "replacement" not in detail:
        detail = await page.channel.assert_push("process", timeout=5)
    assert detail == {"ended": True, "replacement": newest, "number": number}
    answer = await page.ask("process", {"pid": number})
    assert (answer.response["ended"], answer.response["replacement"]) == (True, newest)


async def test_a_page_gets_news_again_after_its_watcher_was_killed(observe: Observe) -> None:
    page = await observe()
    await page.tick()
    watcher = whereis((page.case.endpoint, "observer"))
    assert watcher is not None
    kill(watcher)
    await enter(page.case)
    await page.until_row("RoomChannel 'room:lobby'")
    assert (await page.until_event("restarted"))["child"].startswith("observer")


async def test_further_pages_are_refused(observe: Observe) -> None:
    page = await observe(max_pages=1)
    client = await page.case.connect(PATH, {"ticket": page.observer.access.ticket()})
    answer, _ = await client.join("observer", {})
    assert answer.status == "error"
    assert "1 pages watch already" in answer.response["reason"]


async def test_many_channels_are_one_group_that_can_be_opened_and_searched(
    observe: Observe,
) -> None:
    page = await observe()
    for number in range(40):
        await enter(page.case, f"room:{number}")
    group = await page.until_row("RoomChannel")
    assert group["type"] == "group"
    while page.rows[group["key"]]["count"] < 20:
        await page.tick()
    assert not any(row["title"].startswith("RoomChannel '") for row in page.rows.values())
    await page.ask("view", {"search": "room:7'"})
    await page.until_row("RoomChannel 'room:7'")
    await page.ask("view", {"search": "", "open": [group["key"]]})
    members = [row for row in page.rows.values() if row["parent"] == group["key"]]
    while len(members) < 20:
        await page.tick()
        members = [row for row in page.rows.values() if row["parent"] == group["key"]]


@asynccontextmanager
async def two_nodes(
    phoenix_js: Path,
    *,
    control: tuple[bool, bool] = (True, True),
    children: tuple[Sequence[Any], Sequence[Any]] = ((), ()),
) -> AsyncIterator[tuple[JoinedNodes, Page, ChannelTest]]:
    """Start the nodes one and two. Yield their network, a page on node one, and the channel test of node two."""
    network = JoinedNodes()
    observers = [
        Observer(phoenix_js=phoenix_js, announce=lambda line: None, control=allowed)
        for allowed in control
    ]
    endpoints = [
        Endpoint(
            sockets={"/socket": UserSocket},
            pubsub=PubSub(network.adapter(name)),
            observer=observer,
            secret_key_base="s" * 64,
            children=own,
        )
        for name, observer, own in zip(("one", "two"), observers, children, strict=True)
    ]
    async with (
        open_channel_test(endpoints[0], timeout=5) as here,
        open_channel_test(endpoints[1], timeout=5) as there,
    ):
        yield network, await open_page(here, observers[0]), there


async def test_what_happened_on_another_node_while_nobody_watched_is_shown_once(
    runtime: Runtime, phoenix_js: Path
) -> None:
    async with two_nodes(phoenix_js) as (_, page, there):
        # The other node sends its events for five seconds after the last page has gone.
        for number, seconds in enumerate((1, 90)):
            for _ in range(4):
                await page.tick()
            await page.channel.close()
            await trio.sleep(seconds)
            _, room, _ = await enter(there, f"room:{number}")
            crashed = runtime.now()
            room.push("crash")
            await trio.sleep(90)
            page = await open_page(page.case, page.observer)
            for _ in range(12):
                await page.tick()
            elsewhere = [event for event in page.events if event["kind"] == "elsewhere"]
            crashes = [event["t"] for event in elsewhere if "crashed: " in event["text"]]
            assert len(crashes) == number + 1
            assert crashes[-1] == pytest.approx(crashed, abs=0.1)


async def test_a_page_shows_the_other_nodes_and_their_events(
    runtime: Runtime, phoenix_js: Path
) -> None:
    async with two_nodes(phoenix_js) as (network, page, there):
        rows: list[dict[str, Any]] = []
        while len(rows) < 2:
            rows = (await page.tick()).get("nodes", [])
        assert [(row["node"], row.get("own", False)) for row in rows] == [
            ("one", True),
            ("two", False),
        ]
        _, room, _ = await enter(there)
        room.push("crash")
        event = await page.until_event("elsewhere")
        assert event["text"].startswith("two: ")
        network.isolate("two")
        while max(row["silent"] for row in rows) < 3:
            rows = (await page.tick()).get("nodes", rows)


async def test_a_page_shows_the_processes_of_another_node_and_only_their_changes(
    runtime: Runtime, phoenix_js: Path
) -> None:
    async with two_nodes(phoenix_js) as (_, page, there):
        client, _, number = await enter(there)
        tick = await page.show("two")
        incarnation = there.endpoint.pubsub.node.incarnation
        assert tick["elsewhere"] == {
            "node": "two",
            "incarnation": incarnation,
            "silent": 0.0,
            "answered": True,
        }
        row = await page.until_row("RoomChannel 'room:lobby'")
        assert row["pid"] == number
        later = [await page.tick() for _ in range(8)]
        assert not any("all" in tick for tick in later)
        # Both nodes are in one runtime here, so the mailbox of the page's own channel may change.
        changed = {row["title"] for tick in later for row in tick.get("set", ())}
        assert changed <= {"ObserverChannel 'observer'"}
        kill(whereis_number(runtime, number))
        await page.until_gone(row["key"])
        await client.join("room:lobby")
        await page.until_row("RoomChannel 'room:lobby'")
        await page.ask("node", {"node": None})
        while "all" not in (tick := await page.tick()):
            pass
        assert "elsewhere" not in tick


async def test_a_page_shows_the_entities_of_its_node_and_of_another_one(
    runtime: Runtime, phoenix_js: Path
) -> None:
    grants = Grants()
    one, two = (
        EntitySupervisor("counters", Counter, arbiter=LocalArbiter(grants=grants, holder=holder))
        for holder in (1, 2)
    )
    async with two_nodes(phoenix_js, children=([one], [two])) as (_, page, _):
        await trio.sleep(1)
        for number in range(20):
            await call(one.via(f"k{number}"), "add")
        expected = one.statistics()["entities"]
        tick = await page.tick()
        while tick.get("entities", [{"count": 0}])[0]["count"] < expected:
            tick = await page.tick()
        [table] = tick["entities"]
        assert (table["name"], table["count"]) == ("counters", expected)
        assert {row["node"] for row in table["rows"]} == {"one"}
        assert all(row["born"] <= tick["now"] for row in table["rows"])
        later = [await page.tick() for _ in range(4)]
        assert [each["entities"] for each in later if "entities" in each] == []
        [table] = (await page.show("two"))["entities"]
        assert {row["node"] for row in table["rows"]} == {"two"}
        assert table["count"] == 20 - one.statistics()["entities"]
        await page.ask("node", {"node": None})
        while "entities" not in (tick := await page.tick()) or "elsewhere" in tick:
            pass
        assert {row["node"] for row in tick["entities"][0]["rows"]} == {"one"}


def whereis_number(runtime: Runtime, number: int) -> Pid:
    return next(pid for pid in runtime.processes() if pid.number == number)


async def test_a_page_says_when_another_node_has_not_answered(
    runtime: Runtime, phoenix_js: Path
) -> None:
    async with two_nodes(phoenix_js) as (network, page, _):
        await page.ask("node", {"node": "nobody"})
        while "elsewhere" not in (tick := await page.tick()):
            pass
        assert tick["elsewhere"]["answered"] is False
        await page.show("two")
        network.isolate("two")
        while (state := (await page.tick())["elsewhere"])["silent"] < 3:
            assert state["node"] == "two"
        assert state["answered"] is True
        network.heal()
        while (state := (await page.tick())["elsewhere"])["silent"] > 1:
            pass


async def test_the_facts_and_the_crash_of_a_process_of_another_node_are_shown(
    runtime: Runtime, phoenix_js: Path
) -> None:
    async with two_nodes(phoenix_js) as (_, page, there):
        _, room, number = await enter(there)
        await page.show("two")
        await page.until_row("RoomChannel 'room:lobby'")
        await page.ask("process", {"pid": number})
        facts = await page.channel.assert_push("process", timeout=5)
        assert (facts["number"], facts["mailbox"]) == (number, 0)
        assert facts["about"]["title"] == "RoomChannel 'room:lobby'"
        assert "state" not in facts
        room.push("crash")
        while "ended" not in facts:
            facts = await page.channel.assert_push("process", timeout=5)
        assert "the crash button" in facts["about"]["crash"]["traceback"]


@pytest.mark.parametrize("control", [(True, True), (True, False), (False, True)])
async def test_an_action_on_another_node_needs_control_on_both_nodes(
    runtime: Runtime, phoenix_js: Path, control: tuple[bool, bool]
) -> None:
    async with two_nodes(phoenix_js, control=control) as (_, page, there):
        _, _, number = await enter(there)
        incarnation = (await page.show("two"))["elsewhere"]["incarnation"]
        row = await page.until_row("RoomChannel 'room:lobby'")
        action = {"pid": number, "action": "kill", "node": "two", "incarnation": incarnation}
        wrong = await page.ask("act", {**action, "node": "one"})
        assert wrong.status == "error"
        answer = await page.ask("act", action)
        if not control[0]:
            assert "read-only" in answer.response["reason"]
            return
        done = await page.channel.assert_push("acted", timeout=5)
        assert done["job"] == answer.response["job"]
        if control[1]:
            assert done["problem"] is None
            await page.until_gone(row["key"])
            words = "two: An observer page on one asked for the kill of RoomChannel 'room:lobby'"
            while not any(event["text"].startswith(words) for event in page.events):
                await page.tick()
        else:
            assert done["problem"] == "the observer of two is read-only"
            await page.tick()
            assert row["key"] in page.rows


async def test_an_action_for_another_start_of_a_node_is_refused(
    runtime: Runtime, phoenix_js: Path
) -> None:
    async with two_nodes(phoenix_js) as (_, page, there):
        _, room, number = await enter(there)
        before = (await page.show("two"))["elsewhere"]["incarnation"]
        await page.until_row("RoomChannel 'room:lobby'")
        action = {"pid": number, "action": "kill", "node": "two", "incarnation": before}
        # Node two starts again, and gives the number to another process.
        adapter: Any = there.endpoint.pubsub.adapter
        adapter.exchange.node = Node("two", "later")
        await page.ask("act", action)
        done = await page.channel.assert_push("acted", timeout=5)
        assert done["problem"] == "two has restarted; choose the process again"
        while (await page.tick())["elsewhere"]["incarnation"] != "later":
            pass
        late = await page.ask("act", action)
        assert late.response["reason"] == "two has restarted; choose the process again"
        await room.assert_reply(room.push("say"), "ok")


def test_an_action_of_another_node_is_taken_once_and_only_with_the_secret() -> None:
    one, two, stranger = (Access(None, None) for _ in range(3))
    for access in (one, two):
        access.derive_from(b"s" * 64)
    sealed = one.seal({"to": "two", "action": "kill"})
    assert stranger.unseal(sealed, 0.0) is None
    taken = two.unseal(sealed, 0.0)
    assert taken is not None
    assert taken["to"] == "two"
    assert two.unseal(sealed, 1.0) is None
    assert two.unseal(one.ticket(), 0.0) is None
    assert two.unseal({"to": "two"}, 0.0) is None


def test_only_the_latest_actions_of_other_nodes_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("channels.observer.access.MAX_ACTIONS", 2)
    access = Access(None, None)
    for _ in range(5):
        assert access.unseal(access.seal({"to": "two"}), 0.0) is not None
    for _ in range(2):
        assert access.unseal(access.seal({"action": "kill"}), 10.0) is not None
    assert access.unseal(access.seal({"action": "kill"}), 100.0) is None
    assert access.unseal(access.seal({"to": "two"}), 100.0) is not None
    assert access.unseal(access.seal({"action": "kill"}), 200.0) is not None


async def test_a_page_asks_another_node_for_a_changed_view_only_when_it_is_due(
    runtime: Runtime, phoenix_js: Path
) -> None:
    async with two_nodes(phoenix_js) as (network, page, _):
        await page.show("two")
        requests: list[float] = []

        def count(sender: str, receiver: str, lane: str, data: bytes) -> bool:
            if lane == "@two" and b'"request"' in data:
                requests.append(trio.current_time())
            return False

        network.loses = count
        began = trio.current_time()
        for number in range(20):
            await page.ask("view", {"search": f"room:{number}"})
        await page.ask("view", {"search": "no such process"})
        while page.rows:
            await page.tick()
        seconds = trio.current_time() - began
        assert 1 <= len(requests) <= 1 + seconds / ASK_SECONDS


async def test_without_a_common_secret_nodes_do_not_hear_of_each_other(phoenix_js: Path) -> None:
    one, other = (Observer(phoenix_js=phoenix_js) for _ in range(2))
    assert one.access.topic() != other.access.topic()
    for observer in (one, other):
        observer.access.derive_from(b"s" * 64)
    assert one.access.topic() == other.access.topic()


async def test_the_decisions_of_supervisors_are_told_with_their_arithmetic(
    observe: Observe,
) -> None:
    page = await observe()
    below = Supervisor.child_spec([process_spec(receive, id="leaf")], id="branch", label="branch")
    top = await Supervisor.start(
        [process_spec(receive, id="root"), below],
        strategy="rest_for_one",
        max_restarts=1,
        max_seconds=60,
        label="tree",
    )
    for _ in range(2):
        (_, root) = await Supervisor.which_children(top)
        assert isinstance(root.pid, Pid)
        kill(root.pid)
        await page.tick()
        await page.tick()
    texts = [re.sub(r" <pid \d+>", "", event["text"]) for event in page.events]
    gave_up = "tree gave up because of root (rest_for_one, 2nd restart in 60 s, 1 allowed)"
    texts = [text.partition(". It stops")[0] for text in texts]
    assert texts[1:] == [
        "root, a child of tree, was killed",
        "tree stopped branch and the process below it",
        "tree started root again (rest_for_one, 1st restart in 60 s, 1 allowed)",
        "tree started branch again (rest_for_one, 1st restart in 60 s, 1 allowed)",
        "root, a child of tree, was killed",
        gave_up,
        "tree stopped branch and the process below it",
    ]


async def test_an_exit_ends_a_channel_in_order(observe: Observe) -> None:
    page = await observe(control=True)
    _, _, number = await enter(page.case)
    row = await page.until_row("RoomChannel 'room:lobby'")
    assert (await page.ask("act", {"pid": number, "action": "exit"})).status == "ok"
    await page.until_gone(row["key"])
    assert (await page.until_event("control"))["action"] == "an orderly exit"
    answer = await page.ask("act", {"pid": number, "action": "exit"})
    assert answer.response["reason"] == "this process has ended"


async def test_an_action_for_an_earlier_run_of_the_program_is_refused(observe: Observe) -> None:
    page = await observe(control=True)
    _, room, number = await enter(page.case)
    row = await page.until_row("RoomChannel 'room:lobby'")
    program = page.first["program"]
    action = {"pid": number, "action": "kill", "node": None, "incarnation": None}
    late = await page.ask("act", {**action, "program": program - 1})
    assert late.response["reason"] == "the program has restarted; choose the process again"
    await room.assert_reply(room.push("say"), "ok")
    assert (await page.ask("act", {**action, "program": program})).status == "ok"
    await page.until_gone(row["key"])


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        {"pid": "1", "action": "kill"},
        {"pid": 1, "action": "explode"},
        {"pid": 10**9, "action": "kill"},
        {"logger": "root", "level": "DEBUG"},
        {"logger": "channels", "level": ["DEBUG"]},
    ],
)
async def test_a_malformed_action_is_refused(observe: Observe, payload: Any) -> None:
    page = await observe(control=True)
    await page.tick()
    for event in ("act", "level"):
        assert (await page.ask(event, payload)).status == "error"
    for event in ("view", "process"):
        assert (await page.ask(event, payload)).status == "ok"


async def test_a_page_sets_the_level_of_a_logger(observe: Observe) -> None:
    page = await observe(control=True)
    logger = logging.getLogger("supervision")
    before = logger.level
    try:
        answer = await page.ask("level", {"logger": "supervision", "level": "ERROR"})
        assert answer.status == "ok"
        assert logger.level == logging.ERROR
    finally:
        logger.setLevel(before)
    assert "the log level of supervision to ERROR" in (await page.until_event("level"))["text"]


def outline(rows: Mapping[str, Any], parent: str | None = None, depth: int = 0) -> list[str]:
    """Return the titles of the rows below a row, in the order of the page, indented by depth."""
    below = [row for row in rows.values() if row["parent"] == parent]
    lines: list[str] = []
    for row in sorted(below, key=lambda row: float(row["order"])):
        size = f" ({row['count']})" if row["type"] == "group" else ""
        lines.append(f"{'  ' * depth}{row['title']}{size}")
        lines += outline(rows, row["key"], depth + 1)
    return lines


async def test_the_processes_of_the_application_stand_first_by_class_and_key(
    channel_test: Any, phoenix_js: Path
) -> None:
    class Auction(GenServer[None]):
        pass

    class Clock(GenServer[None]):
        pass

    registry = Registry[int, None]("unique", name="auctions")
    observer = Observer(phoenix_js=phoenix_js)
    endpoint = Endpoint(
        sockets={"/socket": UserSocket},
        observer=observer,
        presences=[Presence()],
        children=[Clock, child_spec(Auction, kwargs={"name": registry.via(42)})],
    )
    page = await open_page(await channel_test(endpoint), observer)
    await enter(page.case)
    await page.until_row("RoomChannel 'room:lobby'")
    assert outline(page.rows)[:9] == [
        "endpoint",
        "  children",
        "    Clock",
        "    Auction 42",
        "  UserSocket channels",
        "    UserSocket channels 0",
        "    UserSocket channels 1",
        "      RoomChannel 'room:lobby'",
        # The observer, the presence, the listener and so on are one closed group.
        f"  {INTERNAL} (10)",
    ]
    (group,) = [row for row in page.rows.values() if row["title"] == INTERNAL]
    assert [row for row in page.rows.values() if row["parent"] == group["key"]] == []
