"""The rows of an observer page: groups, search, bounds, and changes."""

from __future__ import annotations

from typing import Any

import pytest

from channels.observer.model import (
    CROWD,
    INTERNAL,
    MAX_FOUND,
    MAX_ROWS,
    PAGE,
    Absent,
    Entry,
    Model,
    View,
    changes,
)


def entry(number: int, label: str, *ancestors: int, **fields: Any) -> Entry:
    return Entry(number=number, ancestors=ancestors, label=label, born=0.0, **fields)


def pool(channels: int) -> Model:
    """A top with a pool of that many channels."""
    model = Model()
    model.add(entry(1, "top"))
    model.add(entry(2, "pool", 1))
    for number in range(3, 3 + channels):
        model.add(entry(number, f"Room 'room:{number}'", 2, 1))
    return model


def titles(model: Model, view: View | None = None) -> list[str]:
    return [row["title"] for row in model.rows(view or View(), lambda pid: "").values()]


def test_few_siblings_have_a_row_each_and_many_are_a_group() -> None:
    assert len(titles(pool(CROWD))) == 2 + CROWD
    rows = pool(CROWD + 1).rows(View(), lambda pid: "")
    assert list(rows) == ["p1", "p2", "g2:Room"]
    assert rows["g2:Room"]["count"] == CROWD + 1


def test_an_open_group_shows_its_fullest_mailboxes_and_a_bounded_number_of_members() -> None:
    model = pool(10_000)
    model.set_mailboxes({9_000: 7, 9_001: 3})
    rows = model.rows(View(open={"g2:Room"}), lambda pid: "")
    members = [row for row in rows.values() if row["parent"] == "g2:Room"]
    assert len(members) == PAGE + 1
    assert {"p9000", "p9001", "p3"} <= {row["key"] for row in members}
    assert members[-1]["title"] == f"{10_000 - PAGE:,} more; search for one"
    assert rows["g2:Room"]["mailbox"] == 10
    model.set_mailboxes({})
    assert model.rows(View(), lambda pid: "")["g2:Room"]["mailbox"] == 0


def test_a_page_has_a_bounded_number_of_rows() -> None:
    model = Model()
    for number in range(1, 3000):
        # Each of its own sort, so that none are a group.
        model.add(entry(number, f"sort_{number}"))
    rows = model.rows(View(), lambda pid: "")
    assert len(rows) == MAX_ROWS + 1
    assert rows["more"]["type"] == "more"


def test_a_search_shows_matches_with_their_ancestors() -> None:
    model = pool(200)
    assert titles(model, View(search="room:77'")) == ["top", "pool", "Room 'room:77'"]
    assert titles(model, View(search="<pid 77>")) == ["top", "pool", "Room 'room:77'"]
    assert titles(model, View(search="nobody")) == []
    assert len(titles(model, View(search="room"))) == 2 + MAX_FOUND


def test_children_of_an_ended_process_move_to_its_nearest_living_ancestor() -> None:
    model = pool(1)
    model.remove(2)
    rows = model.rows(View(), lambda pid: "")
    assert rows["p3"]["parent"] == "p1"
    model.remove(1)
    assert model.rows(View(), lambda pid: "")["p3"]["parent"] is None
    assert model.remove(1) is None


def test_a_folded_process_hides_its_children() -> None:
    assert titles(pool(3), View(folded={"p2"})) == ["top", "pool"]


def test_a_child_that_does_not_run_has_its_place_among_its_siblings() -> None:
    model = Model()
    top = entry(1, "top")
    model.add(top)
    top.absent = (Absent("till", "restarting", 2, 0),)
    model.add(entry(9, "counter", 1, id="counter", rank=1))
    rows = model.rows(View(), lambda pid: "")
    below = sorted(
        (row for row in rows.values() if row["parent"] == "p1"), key=lambda row: row["order"]
    )
    assert [(row["title"], row["type"]) for row in below] == [
        ("till", "absent"),
        ("counter", "process"),
    ]
    assert below[0]["status"] == "restarting"


def test_a_new_label_moves_a_process_to_another_group() -> None:
    model = pool(CROWD + 1)
    model.describe(model.entries[3], "Lobby", None)
    assert "Lobby" in titles(model)
    assert len(titles(model)) == 2 + CROWD + 1


def test_changes_are_the_rows_that_differ() -> None:
    model = pool(3)
    before = model.rows(View(), lambda pid: "")
    assert not changes(before, model.rows(View(), lambda pid: ""))
    model.set_mailboxes({4: 1})
    model.remove(5)
    model.add(entry(6, "Room 'new'", 2, 1))
    difference = changes(before, model.rows(View(), lambda pid: ""))
    assert [row["key"] for row in difference.set] == ["p4", "p6"]
    assert difference.gone == ["p5"]


def test_the_path_of_a_process_has_the_titles_from_the_top() -> None:
    model = pool(1)
    assert model.path_of(model.entries[3]) == "/top/pool/Room 'room:3'"


@pytest.mark.parametrize(
    "wanted",
    [
        {"open": 7, "folded": None, "search": []},
        {"open": [1, None, "x" * 300], "folded": [{}]},
        {},
    ],
)
def test_a_malformed_wish_of_a_page_is_ignored(wanted: dict[str, Any]) -> None:
    view = View()
    view.update(wanted)
    assert (view.open, view.folded, view.search) == (set(), set(), "")


def test_wishes_of_a_page_are_bounded() -> None:
    view = View()
    view.update({"open": [str(number) for number in range(5000)], "search": "x" * 5000})
    assert len(view.open) == 1000
    assert len(view.search) == 100


def endpoint_with_channels(channels: int) -> Model:
    model = Model()
    model.add(entry(1, "endpoint"))
    for number, label in enumerate(("children", "Room channels", "flusher", "connections"), 2):
        model.add(entry(number, label, 1, id=label, rank=number))
    for number in range(100, 100 + channels):
        model.add(entry(number, "Connection", 5, 1))
    for number in (4, 5):
        model.set_internal(model.entries[number], is_internal=True)
    return model


def test_the_processes_of_the_endpoint_itself_are_one_closed_group_after_those_of_the_application() -> (
    None
):
    model = endpoint_with_channels(3)
    assert titles(model) == ["endpoint", "children", "Room channels", INTERNAL]
    rows = model.rows(View(), lambda pid: "")
    group = rows[f"g1:{INTERNAL}"]
    assert (group["type"], group["count"], group["parent"]) == ("group", 2, "p1")
    assert group["order"] > max(rows["p2"]["order"], rows["p3"]["order"])
    opened = titles(model, View(open={f"g1:{INTERNAL}"}))
    assert opened[3:] == [INTERNAL, "flusher", "connections", *["Connection"] * 3]


def test_a_closed_group_counts_the_messages_that_wait_below_its_members() -> None:
    model = endpoint_with_channels(3)
    model.set_mailboxes({101: 5_000, 4: 1, 2: 7})
    assert model.rows(View(), lambda pid: "")[f"g1:{INTERNAL}"]["mailbox"] == 5_001


def test_a_search_finds_a_process_of_the_endpoint_itself() -> None:
    assert titles(endpoint_with_channels(0), View(search="flush")) == ["endpoint", "flusher"]


def test_a_process_that_is_no_longer_internal_leaves_the_group() -> None:
    model = endpoint_with_channels(0)
    model.set_internal(model.entries[4], is_internal=False)
    assert "flusher" in titles(model)
