"""Draw boxes and arrows as SVG.

A diagram has a background of its own, light or dark as the page that shows it. Its text is real text, in the fonts of
the reader's system.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.sax.saxutils import escape

from attrs import frozen

__all__ = ["Arrow", "Box", "Diagram", "Frame", "Item", "Lifeline", "Note", "Point", "render"]

Point = tuple[float, float]

CHARACTER = 7.6
"""The width in pixels of an average character in a box. The estimate is rather too wide than too narrow."""

SMALL_CHARACTER = 6.9
"""The width in pixels of an average character in a note, or in the label of an arrow."""

LINE = 19
_FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_STYLE = """
    text { fill: #1f2d26; font-size: 14px }
    .small { font-size: 13px; fill: #45554d; paint-order: stroke; stroke: #ffffff; stroke-width: 5px }
    .hot { fill: #9a3412 }
    .title { font-weight: 600 }
    .card { fill: #ffffff; stroke: #c9d3cd }
    .plain { fill: #f1f5f3; stroke: #3f6f57 }
    .strong { fill: #2f5c46; stroke: #2f5c46 }
    .new { fill: #dcf2e5; stroke: #1f7a4d; stroke-width: 2 }
    .crashed { fill: #fff0e8; stroke: #c2410c; stroke-width: 2 }
    .frame { fill: none; stroke: #8b9a92; stroke-dasharray: 5 4 }
    .onstrong { fill: #ffffff; stroke: none }
    .line { fill: none; stroke: #3f6f57; stroke-width: 1.6 }
    .hotline { fill: none; stroke: #c2410c; stroke-width: 1.8 }
    .dashed { stroke-dasharray: 5 4 }
    .life { stroke: #8b9a92; stroke-dasharray: 2 4 }
    .head { fill: #3f6f57 }
    .hothead { fill: #c2410c }
    @media (prefers-color-scheme: dark) {
      text { fill: #e3ece7 }
      .small { fill: #a9b8b0; stroke: #17201c }
      .hot { fill: #fdba8c }
      .card { fill: #17201c; stroke: #33413a }
      .plain { fill: #202c26; stroke: #6fae8e }
      .strong { fill: #2f5c46; stroke: #6fae8e }
      .new { fill: #1d3f2e; stroke: #4fc389 }
      .crashed { fill: #43200f; stroke: #f08a50 }
      .frame { stroke: #7d8c84 }
      .onstrong { fill: #ffffff }
      .line { stroke: #6fae8e }
      .hotline { stroke: #f08a50 }
      .life { stroke: #7d8c84 }
      .head { fill: #6fae8e }
      .hothead { fill: #f08a50 }
    }"""


@frozen(kw_only=True)
class Box:
    """A rectangle with lines of text in its middle.

    Attributes:
        name: the name of the box, for the ends of arrows.
        kind: `plain`, `strong` (dark), `new` (a new process) or `crashed`.
    """

    name: str
    x: float
    y: float
    width: float
    height: float = 44
    text: tuple[str, ...]
    kind: str = "plain"


@frozen(kw_only=True)
class Frame:
    """A dashed rectangle around other items, with a title at its top left."""

    x: float
    y: float
    width: float
    height: float
    title: str


@frozen(kw_only=True)
class Note:
    """A line of text. `y` is its base line."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    kind: str = "small"


@frozen(kw_only=True)
class Lifeline:
    """A vertical dotted line below a box: the time of a participant."""

    x: float
    top: float
    bottom: float


@frozen(kw_only=True)
class Arrow:
    """An arrow between two boxes, or between two points, with a label above its middle.

    Attributes:
        start: the name of a box, or a point.
        end: the name of a box, or a point.
        via: points between the two ends.
        hot: True for an error or a crash.
        dashed: True for a message that does not arrive, or a weak relation.
        both: True for heads at both ends.
        shift: moves the label, in pixels to the right and down.
    """

    start: str | Point
    end: str | Point
    label: str = ""
    via: tuple[Point, ...] = ()
    hot: bool = False
    dashed: bool = False
    both: bool = False
    shift: Point = (0, 0)


Item = Box | Frame | Note | Lifeline | Arrow


@frozen(kw_only=True)
class Diagram:
    """A picture of a given size.

    Attributes:
        name: the name of the file, without `.svg`.
        title: a sentence that describes the picture. The pages repeat it as the alternative text.
    """

    name: str
    title: str
    width: int
    height: int
    items: tuple[Item, ...]


def render(diagram: Diagram) -> str:
    """Return the SVG of a diagram.

    Raises:
        ValueError: a text does not fit into its box, or an item lies outside the picture.
    """
    boxes = {item.name: item for item in diagram.items if isinstance(item, Box)}
    problems = [
        *(problem for box in boxes.values() for problem in _too_narrow(box)),
        *_outside(diagram),
    ]
    if problems:
        raise ValueError(f"{diagram.name}: {'; '.join(problems)}")
    body = "\n".join(line for item in diagram.items for line in _draw(item, boxes))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {diagram.width} {diagram.height}" '
        f'width="{diagram.width}" role="img" font-family="{_FONT}">\n'
        f"  <title>{escape(diagram.title)}</title>\n"
        f"  <style>{_STYLE}\n  </style>\n"
        f'  <rect class="card" x="0.5" y="0.5" width="{diagram.width - 1}" '
        f'height="{diagram.height - 1}" rx="8" />\n'
        f"{body}\n</svg>\n"
    )


def _too_narrow(box: Box) -> Iterable[str]:
    if len(box.text) * LINE > box.height:
        yield f"{len(box.text)} lines do not fit into {box.name}"
    for line in box.text:
        if len(line) * CHARACTER > box.width - 8:
            yield f"{line!r} needs {len(line) * CHARACTER + 8:.0f} pixels in {box.name}"


def _outside(diagram: Diagram) -> Iterable[str]:
    for item in diagram.items:
        if isinstance(item, Box | Frame):
            if item.x + item.width > diagram.width or item.y + item.height > diagram.height:
                yield f"{item} is outside"
        elif isinstance(item, Note):
            length = len(item.text) * SMALL_CHARACTER
            begin = item.x - {"start": 0.0, "middle": length / 2, "end": length}[item.anchor]
            if begin < 0 or begin + length > diagram.width or item.y > diagram.height:
                yield f"{item.text!r} is outside"


def _draw(item: Item, boxes: dict[str, Box]) -> Iterable[str]:
    match item:
        case Box():
            yield from _draw_box(item)
        case Frame():
            yield _rect("frame", item.x, item.y, item.width, item.height)
            yield _text(item.x + 10, item.y + 20, item.title, "start", "small title")
        case Note():
            yield _text(item.x, item.y, item.text, item.anchor, item.kind)
        case Lifeline():
            yield (
                f'  <line class="life" x1="{_n(item.x)}" y1="{_n(item.top)}" '
                f'x2="{_n(item.x)}" y2="{_n(item.bottom)}" />'
            )
        case Arrow():
            yield from _draw_arrow(item, boxes)


def _draw_box(box: Box) -> Iterable[str]:
    yield _rect(box.kind, box.x, box.y, box.width, box.height)
    first = box.y + box.height / 2 - (len(box.text) - 1) * LINE / 2 + 5
    kind = {"strong": "onstrong", "crashed": "hot"}.get(box.kind, "")
    for number, line in enumerate(box.text):
        yield _text(box.x + box.width / 2, first + number * LINE, line, "middle", kind)


def _draw_arrow(arrow: Arrow, boxes: dict[str, Box]) -> Iterable[str]:
    first, last = _middle(arrow.start, boxes), _middle(arrow.end, boxes)
    towards_start = arrow.via[0] if arrow.via else last
    towards_end = arrow.via[-1] if arrow.via else first
    start = _edge(arrow.start, boxes, towards_start)
    end = _edge(arrow.end, boxes, towards_end)
    points = [start, *arrow.via, end]
    line = f"{'hotline' if arrow.hot else 'line'}{' dashed' if arrow.dashed else ''}"
    path = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
    yield f'  <path class="{line}" d="M{path}" />'
    head = "hothead" if arrow.hot else "head"
    yield _head(head, points[-2], end)
    if arrow.both:
        yield _head(head, points[1], start)
    if arrow.label:
        (x1, y1), (x2, y2) = points[len(points) // 2 - 1], points[len(points) // 2]
        x, y = (x1 + x2) / 2 + arrow.shift[0], (y1 + y2) / 2 - 7 + arrow.shift[1]
        yield _text(x, y, arrow.label, "middle", "small hot" if arrow.hot else "small")


def _middle(end: str | Point, boxes: dict[str, Box]) -> Point:
    if isinstance(end, tuple):
        return end
    box = boxes[end]
    return box.x + box.width / 2, box.y + box.height / 2


def _edge(end: str | Point, boxes: dict[str, Box], towards: Point) -> Point:
    """Return the point where an arrow touches a box. If possible, the arrow meets a side at a right angle."""
    if isinstance(end, tuple):
        return end
    box = boxes[end]
    x, y = _middle(end, boxes)
    if box.y <= towards[1] <= box.y + box.height:
        return (box.x if towards[0] < x else box.x + box.width), towards[1]
    if box.x <= towards[0] <= box.x + box.width:
        return towards[0], (box.y if towards[1] < y else box.y + box.height)
    dx, dy = towards[0] - x, towards[1] - y
    scale = min(
        box.width / 2 / abs(dx) if dx else math.inf, box.height / 2 / abs(dy) if dy else math.inf
    )
    return x + dx * scale, y + dy * scale


def _head(kind: str, before: Point, tip: Point) -> str:
    angle = math.atan2(tip[1] - before[1], tip[0] - before[0])
    corners = [
        (tip[0] - 10 * math.cos(angle + turn), tip[1] - 10 * math.sin(angle + turn))
        for turn in (-0.4, 0.4)
    ]
    path = "L".join(f"{_n(x)} {_n(y)}" for x, y in [tip, *corners])
    return f'  <path class="{kind}" d="M{path}Z" />'


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'  <rect class="{kind}" x="{_n(x)}" y="{_n(y)}" '
        f'width="{_n(width)}" height="{_n(height)}" rx="6" />'
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> str:
    attributes = f' class="{kind}"' if kind else ""
    return (
        f'  <text{attributes} x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
