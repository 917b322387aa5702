"""The names of processes, clients and tasks in a story."""

from __future__ import annotations

from typing import Any

from supervision.recording.reader.names import Names


def spawned(pid: int, path: str, *, inc: int = 1, **more: Any) -> dict[str, Any]:
    event = {"kind": "spawned", "pid": pid, "parent": 0, "path": path, "inc": inc, "role": path}
    return {"n": pid, "t": 0.0, "task": 0, **event, **more}


def event(kind: str, pid: int | None, **fields: Any) -> dict[str, Any]:
    return {"n": 100, "t": 0.0, "task": 7, "kind": kind, "pid": pid, **fields}


def joined(channel: int, connection: int) -> dict[str, Any]:
    about = {"topic": "room:b:", "channel": "Room", "result": "ok", "seconds": 0.0}
    return event("joined", channel, connection_pid=connection, **about)


def test_a_process_has_its_path_and_its_incarnation() -> None:
    names = Names([spawned(1, "/top/store"), spawned(2, "/top/store", inc=2)])
    assert names.process((0, 1)) == "/top/store"
    assert names.process((0, 2)) == "/top/store#2"
    assert names.process((0, 3)) == "process 3"


def test_a_process_of_a_node_has_the_name_of_the_node() -> None:
    assert Names([spawned(1, "/top", node="a#2")]).process(("a#2", 1)) == "a#2/top"


def test_a_process_below_the_children_of_an_endpoint_has_the_last_part_of_its_path() -> None:
    names = Names(
        [
            spawned(1, "/Supervisor/endpoint/children"),
            spawned(2, "/Supervisor/endpoint/children/houses/Auction 42"),
            spawned(3, "/Supervisor/endpoint/children/houses/Auction 42", inc=2),
            spawned(4, "/Supervisor/endpoint/children/mailer"),
            event("labelled", 4, label="order 17"),
        ]
    )
    assert names.process((0, 1)) == "/Supervisor/endpoint/children"
    assert names.process((0, 2)) == "Auction 42"
    assert names.process((0, 3)) == "Auction 42#2"
    assert names.process((0, 4)) == "mailer (order 17)"


def test_children_with_the_same_last_part_keep_their_paths() -> None:
    paths = [f"/endpoint/children/{house}/Auction 42" for house in ("attic", "hall")]
    names = Names([spawned(number, path) for number, path in enumerate(paths)])
    assert [names.process((0, number)) for number in range(2)] == paths
    nodes = [spawned(1, paths[0], node=node) for node in ("a", "b")]
    assert Names(nodes).process(("b", 1)) == f"b{paths[0]}"


def test_a_label_stands_behind_the_path() -> None:
    names = Names([spawned(1, "/top/Worker"), event("labelled", 1, label="order 17")])
    assert names.process((0, 1)) == "/top/Worker (order 17)"


def test_a_channel_has_its_class_its_topic_and_its_client() -> None:
    names = Names(
        [
            spawned(1, "/endpoint/connections/Connection"),
            event("client_connected", 1, socket="User", transport="Connection", client="ann"),
            spawned(2, "/endpoint/User channels/0/ChannelServer"),
            joined(2, 1),
            spawned(3, "/endpoint/User channels/1/ChannelServer"),
            joined(3, 1),
        ]
    )
    assert names.process((0, 1)) == "the connection of ann"
    assert names.process((0, 2)) == "Room 'room:b:' of ann"
    assert names.process((0, 3)) == "Room 'room:b:'#2 of ann"
    assert names.client((0, 1)) == "ann"


def test_a_client_without_an_id_has_its_host() -> None:
    names = Names(
        [
            event("connected", None, connection=1, source="ann's phone", target="server"),
            spawned(1, "/endpoint/connections/Connection"),
            event("serves", 1, connection=1),
            event("client_connected", 1, socket="User", transport="Connection"),
        ]
    )
    assert names.client((0, 1)) == "ann's phone"


def test_a_client_without_id_and_host_has_the_name_of_its_connection() -> None:
    names = Names(
        [
            spawned(1, "/endpoint/connections/Connection"),
            event("client_connected", 1, socket="User", transport="Connection"),
        ]
    )
    assert names.client((0, 1)) == "the client of /endpoint/connections/Connection"


def test_tasks_of_the_scenario_are_told_apart() -> None:
    sent = [{**event("sent", None), "task": task} for task in (2, 5, 6)]
    names = Names(sent, {2: "the scenario", 5: "shop.customers.buy", 6: "shop.customers.buy"})
    who = [names.who(each) for each in sent]
    assert who == ["the scenario", "the task buy", "the task buy#2"]


def test_a_text_has_names_in_place_of_pids() -> None:
    names = Names([spawned(1, "/top/store")])
    assert names.text("('subscribe', <pid 1>, <pid 9>)") == "('subscribe', /top/store, <pid 9>)"
