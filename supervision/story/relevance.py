"""The choice of sentences for a story: the ones that a failure is about.

*pure*. A run has many messages, and a failure needs few of them. The words of the failure name processes, keys and
values. A sentence with rare words of the failure is close to its cause. So is a sentence of the same handling, such as
the push of a client that led to a request.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from supervision.story.exchanges import Line

__all__ = ["chosen", "gaps"]

_WORD = re.compile(r"[^\W_]+")
_EVERYWHERE = 0.6
"""The share of sentences in which a word must be to say nothing about any of them."""
_NEAR = 0.6
"""The share of a sentence's score that the other sentences of the same handling get."""
_FAR = 0.5
"""The share of the best score below which a sentence says too little about the failure."""
_POINTED = 3.0
"""The weight that a sentence gets in addition if a hint points to it."""
_FEWEST = 8
"""The number of sentences that a story keeps, even if they say little about the failure."""
_PLAIN = frozenset((
    "a", "after", "again", "and", "answered", "at", "by", "client", "did", "does", "for", "from", "got", "had", "has",
    "he", "in", "is", "it", "its", "not", "noted", "of", "on", "or", "replied", "s", "sent", "she", "still", "that",
    "the", "their", "they", "to", "was", "were", "which", "who", "with",
))  # fmt: skip
"""Words of the sentences themselves, which say nothing about a failure."""
_EVENTFUL = 4.0
"""The weight of the sentences that a story keeps if there is room: ends, restarts, and calls without an answer."""


def chosen(
    lines: Sequence[Line], about: str, most: int, pointed: Collection[int] = ()
) -> list[Line]:
    """Return the sentences to show, in order.

    Args:
        lines: the sentences in order.
        about: the text of the failure.
        most: the most sentences.
        pointed: the events to which a hint points.
    """
    if len(lines) > most:
        lines = [line for line in lines if line.weight > 0]
    if len(lines) <= most:
        return list(lines)
    scores = _scores(lines, about, pointed)
    # Of equal scores, the later sentence is closer to the failure.
    best = sorted(range(len(lines)), key=lambda index: (scores[index], index), reverse=True)[:most]
    limit = _FAR * scores[best[0]] if best else 0.0
    kept = [
        index
        for position, index in enumerate(best)
        if position < min(most, _FEWEST)
        or scores[index] >= limit
        or lines[index].weight >= _EVENTFUL
    ]
    return [lines[index] for index in sorted(kept)]


def gaps(shown: Sequence[Line], lines: Sequence[Line]) -> Iterable[tuple[int, Line]]:
    """Yield each shown sentence with the number of sentences that are left out before it."""
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
