"""The choice of sentences for a story: the sentences closest to the failure.

*pure*. A run has many messages, but only a few explain a failure. The words of the failure name processes, keys and
values. A sentence that contains rare words of the failure is probably close to its cause. Other sentences of the same
handling are close to the cause too, such as the push of a client that caused a request.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from supervision.laboratory.simulation.replaying.exchanges import Line

__all__ = ["chosen", "gaps"]

_WORD = re.compile(r"[^\W_]+")
_EVERYWHERE = 0.6
"""A word that occurs in more than this share of the sentences does not count."""
_NEAR = 0.6
"""Each sentence of a handling gets at least this share of the best score in the handling."""
_FAR = 0.5
"""A story leaves out sentences with less than this share of the best score."""
_POINTED = 3.0
"""The additional score of a sentence to which a hint points."""
_APART = 0.4
"""The share of its score that a sentence keeps outside the causal past of the failure. A trace does not show all
influences, because processes may share an object."""
_FEWEST = 8
"""A story keeps at least this number of sentences, even if their scores are low."""
_PLAIN = frozenset((
    "a", "after", "again", "and", "answered", "at", "by", "client", "did", "does", "for", "from", "got", "had", "has",
    "he", "in", "is", "it", "its", "not", "noted", "of", "on", "or", "replied", "s", "sent", "she", "still", "that",
    "the", "their", "they", "to", "was", "were", "which", "who", "with",
))  # fmt: skip
"""Common words, which do not count as words of the failure."""
_EVENTFUL = 4.0
"""A story keeps sentences from this weight on if there is room: ends, restarts, and calls without an answer."""


def chosen(
    lines: Sequence[Line],
    about: str,
    most: int,
    *,
    pointed: Collection[int] = (),
    kept: Collection[int] = (),
    past: Collection[int] | None = None,
) -> list[Line]:
    """Return the sentences to show, in order.

    Args:
        lines: the sentences in order.
        about: the text of the failure.
        most: the largest number of sentences to return, apart from those that `kept` adds.
        pointed: the numbers of the events to which a hint points.
        kept: the numbers of the events whose sentences stay in addition, at most `most` of them.
        past: the numbers of the events that may have led to the failure; None is all events. They count more.
    """
    if len(lines) > most:
        lines = [line for line in lines if line.weight > 0 or line.n in kept]
    if len(lines) <= most:
        return list(lines)
    scores = [
        score if past is None or line.n in past else _APART * score
        for line, score in zip(lines, _scores(lines, about, pointed), strict=True)
    ]
    # For equal scores, prefer the later sentence, which is closer to the failure.
    ranked = sorted(range(len(lines)), key=lambda index: (scores[index], index), reverse=True)
    best = ranked[:most]
    limit = _FAR * scores[best[0]] if best else 0.0
    good = [
        index
        for position, index in enumerate(best)
        if position < min(most, _FEWEST)
        or scores[index] >= limit
        or lines[index].weight >= _EVENTFUL
    ]
    stay = [index for index in ranked if lines[index].n in kept][:most]
    return [lines[index] for index in sorted({*good, *stay})]


def gaps(shown: Sequence[Line], lines: Sequence[Line]) -> Iterable[tuple[int, Line]]:
    """Yield each shown sentence, with the number of hidden sentences directly before it."""
    position = {id(line): index for index, line in enumerate(lines)}
    before = -1
    for line in shown:
        index = position[id(line)]
        yield index - before - 1, line
        before = index


def _scores(lines: Sequence[Line], about: str, pointed: Collection[int]) -> list[float]:
    asked = _words(about)
    found = [asked & _words(line.text) for line in lines]
    counts = Counter(word for words in found for word in words)
    limit = _EVERYWHERE * len(lines)
    worth = {
        word: math.log(1 + len(lines) / count) ** 2
        for word, count in counts.items()
        if count <= limit
    }
    own = [
        line.weight
        + (_POINTED if line.n in pointed else 0.0)
        + sum(worth.get(word, 0.0) for word in sorted(words))
        for line, words in zip(lines, found, strict=True)
    ]
    threads: dict[int, float] = {}
    for line, score in zip(lines, own, strict=True):
        threads[line.thread] = max(threads.get(line.thread, 0.0), score)
    return [
        max(score, _NEAR * threads[line.thread]) for line, score in zip(lines, own, strict=True)
    ]


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text)) - _PLAIN
