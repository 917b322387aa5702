"""A page of another node gets the changes of the rows. After a lost message, it gets all rows."""

from __future__ import annotations

from typing import Any

from channels.observer.elsewhere import ASK_SECONDS, MAX_SERVED, Elsewhere, Served


def rows(*titles: str) -> dict[str, dict[str, Any]]:
    return {title: {"key": title, "title": title} for title in titles}


def test_an_answer_has_only_the_changes_since_the_answer_before() -> None:
    served, page = Served(), Elsewhere("two", 0.0)
    first = served.answer("one", 7, page.last, rows("a", "b"))
    tick = page.hear(first, 1.0)
    assert tick == {"set": [*rows("a", "b").values()], "gone": [], "all": True}
    second = served.answer("one", 7, page.last, rows("b", "c"))
    assert page.hear(second, 2.0) == {"set": [*rows("c").values()], "gone": ["a"]}


def test_all_rows_come_again_after_a_lost_answer() -> None:
    served, page = Served(), Elsewhere("two", 0.0)
    page.hear(served.answer("one", 7, page.last, rows("a")), 1.0)
    served.answer("one", 7, page.last, rows("a", "b"))  # lost
    tick = page.hear(served.answer("one", 7, page.last, rows("a", "b", "c")), 2.0)
    assert tick == {"set": [*rows("a", "b", "c").values()], "gone": [], "all": True}


def test_an_answer_to_a_page_that_missed_the_one_before_is_not_shown() -> None:
    served, page = Served(), Elsewhere("two", 0.0)
    first = served.answer("one", 7, 0, rows("a"))
    second = served.answer("one", 7, first["number"], rows("a", "b"))
    assert page.hear(second, 1.0) is None
    assert page.last == 0


def test_an_observer_remembers_the_rows_of_a_bounded_number_of_pages() -> None:
    served = Served()
    numbers = [served.answer("one", page, 0, rows("a"))["number"] for page in range(MAX_SERVED + 1)]
    assert served.answer("one", 0, numbers[0], rows("a"))["follows"] == 0
    assert served.answer("one", MAX_SERVED, numbers[-1], rows("a"))["follows"] == numbers[-1]


def test_the_silence_of_a_node_counts_from_its_last_answer() -> None:
    page = Elsewhere("two", 10.0)
    assert page.is_due(10.0)
    assert page.state(14.0) == {
        "node": "two",
        "incarnation": "",
        "silent": 4.0,
        "answered": False,
    }
    page.hear({"number": 1, "follows": 0}, 15.0)
    assert (page.state(15.5)["silent"], page.state(15.5)["answered"]) == (0.5, True)
    page.asked = 15.0
    assert not page.is_due(15.0 + ASK_SECONDS / 2)


def test_a_page_keeps_the_old_incarnation_until_it_gets_all_rows_of_the_new_one() -> None:
    served, page = Served(), Elsewhere("two", 0.0)
    first = served.answer("one", 7, page.last, rows("a"))
    page.hear({**first, "incarnation": "first"}, 1.0)
    page.pid = 5
    changed = served.answer("one", 7, page.last, rows("b"))
    assert page.hear({**changed, "incarnation": "second"}, 2.0) is None
    assert (page.incarnation, page.last) == ("first", 0)
    whole = served.answer("one", 7, page.last, rows("b"))
    tick = page.hear({**whole, "incarnation": "second"}, 3.0)
    assert tick == {"set": [*rows("b").values()], "gone": [], "all": True}
    assert page.state(3.0)["incarnation"] == "second"
    # The number may belong to another process now.
    assert page.pid is None
