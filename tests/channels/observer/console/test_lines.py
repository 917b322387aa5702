"""The rows of an observer as lines of a terminal."""

from __future__ import annotations

from typing import Any

from channels.observer.console.lines import Board, entity_lines, figures, line_of


def row(key: str, parent: str | None, order: int, title: str, **more: Any) -> dict[str, Any]:
    return {
        "key": key,
        "parent": parent,
        "order": order,
        "type": "process",
        "title": title,
        **more,
    }


def drawn(board: Board) -> list[str]:
    return [line_of(depth, each) for depth, each in board.lines()]


def test_rows_are_drawn_below_their_parents_in_order() -> None:
    board = Board()
    top = row("p1", None, 1, "top", kind="one_for_one", pid=1)
    rows = [row("p3", "p1", 1, "b"), row("p2", "p1", 0, "a"), top]
    assert board.apply({"all": True, "set": rows})
    assert drawn(board) == ["top (one_for_one) <pid 1>", "  a", "  b"]


def test_a_tick_changes_only_what_it_names() -> None:
    board = Board()
    board.apply({"all": True, "set": [row("p1", None, 1, "a"), row("p2", None, 2, "b")]})
    assert not board.apply({"now": 1.0})
    board.apply({"gone": ["p1", "unknown"], "set": [row("p2", None, 2, "b", mailbox=3)]})
    assert drawn(board) == ["b 3 waiting"]
    board.apply({"all": True, "set": []})
    assert drawn(board) == []


def test_a_row_whose_parent_is_not_shown_is_at_the_top() -> None:
    board = Board()
    group = row("g1", "p9", 1, "Room", type="group", count=4998)
    board.apply({"set": [group, row("p2", "g1", 1, "one", status="suspended", restarts=2)]})
    assert drawn(board) == ["Room × 4,998", "  one suspended restarted 2×"]


def test_a_row_has_no_control_characters() -> None:
    hostile = "\x1b[2J\n\x9b31m\u202e"
    line = line_of(1, row("p1", None, 1, hostile, kind=hostile, status=hostile, pid=1))
    assert line.isprintable()
    assert line.count(r"\x1b[2J\n\x9b31m\u202e") == 3


def test_figures_are_one_line() -> None:
    point = {
        "processes": 10_022,
        "pushes": 12.5,
        "p99": None,
        "mailboxes": 0,
        "restarts": 1,
        "crashes": 2,
        "gave_up": 0,
        "memory": 50 * 2**20,
    }
    assert figures(point) == (
        "10,022 processes · 12.5 pushes/s · p99 – · 0 waiting · 1 restarts · 2 crashes · "
        "0 gave up · 50 MB"
    )


def test_entities_are_lines_with_their_place_and_their_last_handover() -> None:
    rows = [
        {
            "key": "42",
            "node": "one",
            "state": "running",
            "pid": 7,
            "born": 90.0,
            "messages": 1234,
            "handover": {"from": "two", "at": 90.0},
        },
        {"key": "43", "node": "one", "state": "starting", "messages": 0},
        {"key": "\x1b44", "node": "two", "state": "moved", "handover": {"to": "two", "at": 98.0}},
    ]
    assert entity_lines([{"name": "auctions", "count": 1500, "rows": rows}], 100.0) == [
        "auctions: 1,500 running",
        "  42 on one, 10 s old, 1,234 messages, moved from two 10 s ago",
        "  43 on one, starting, 0 messages",
        "  \\x1b44 on two, moved to two 2 s ago",
    ]
    assert entity_lines([], 100.0) == []
