"""The choice of sentences for a story."""

from __future__ import annotations

from supervision.laboratory.simulation.replaying.exchanges import Line
from supervision.laboratory.simulation.replaying.relevance import chosen, gaps


def lines(*texts: str, **weights: float) -> list[Line]:
    return [
        Line(n=n, t=float(n), text=text, weight=weights.get(text.split()[0], 1.0), thread=n)
        for n, text in enumerate(texts)
    ]


def test_a_short_story_has_all_sentences() -> None:
    few = lines("a", "b", "c")
    assert chosen(few, "nothing of this", 3) == few


def test_sentences_without_weight_go_first() -> None:
    some = lines("ended quietly", "b", "c", ended=0.0)
    assert [line.text for line in chosen(some, "", 2)] == ["b", "c"]


def test_sentences_with_rare_words_of_the_failure_stay() -> None:
    some = lines(*(f"/seats got seat {n} from visitor" for n in range(40)))
    shown = chosen(some, "seat 7 was sold to a visitor twice", 10)
    assert "/seats got seat 7 from visitor" in [line.text for line in shown]
    assert len(shown) <= 10


def test_sentences_of_the_same_handling_stay_together() -> None:
    some = lines(*(f"/bank got order {n}" for n in range(40)))
    push = Line(n=40, t=40.0, text="the client pushed", thread=5)
    shown = chosen([*some, push], "order 5 was paid twice", 5)
    assert push in shown


def test_a_crash_stays_although_the_failure_does_not_name_it() -> None:
    some = lines("crashed with ValueError", *(f"/bank got order {n}" for n in range(40)), crashed=5)
    assert some[0] in chosen(some, "order 5 was paid twice", 10)


def test_without_common_words_the_last_sentences_stay() -> None:
    some = lines(*(f"/bank got {n}" for n in range(40)))
    assert [line.n for line in chosen(some, "nothing of this", 5)] == [35, 36, 37, 38, 39]


def test_the_sentences_to_which_a_hint_points_stay() -> None:
    some = lines(*(f"/bank got {n}" for n in range(40)))
    assert {3, 4} <= {line.n for line in chosen(some, "nothing", 5, pointed={3, 4})}


def test_each_gap_has_the_number_of_omitted_sentences() -> None:
    some = lines("a", "b", "c", "d", "e")
    assert [before for before, _ in gaps([some[1], some[2], some[4]], some)] == [1, 0, 1]
