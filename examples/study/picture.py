"""The pictures of the experiments: self-contained SVG for light and dark pages. Equal figures give equal pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from examples.study.lab import Life

__all__ = ["bars", "curves", "squares", "timelines"]

_WIDTH, _LEFT, _RIGHT, _PANEL = 760, 150, 730, 90
_STYLE = """
svg { font: 13px system-ui, sans-serif; --ink: #1f2933; --faint: #7b8794; --paper: #fff; --lane: #e4e7eb; }
svg { background: var(--paper); } text { fill: var(--ink); } .title { font-size: 15px; font-weight: 600; }
.small { font-size: 11px; fill: var(--faint); } .line { stroke: var(--faint); } .lane { stroke: var(--lane); }
.alive { fill: #2563eb; } .stopped { fill: #9aa5b1; } .crashed { fill: #dc2626; } .killed { fill: #9333ea; }
text.inside { fill: #fff; } .untouched { fill: #059669; } .mark { stroke: #dc2626; stroke-width: 2.5; fill: none; }
.mark.killed { stroke: #9333ea; } .mark.stopped { stroke: #616e7c; }
.c0 { stroke: #2563eb; } .c1 { stroke: #d97706; } .c2 { stroke: #059669; } .curve { fill: none; stroke-width: 2; }
.limit { stroke: #dc2626; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e4e7eb; --faint: #9aa5b1; --paper: #16191d; --lane: #323f4b; }
}
"""


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" role="img">\n'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>\n"
        + "\n".join([_text(16, 26, title, "title"), *parts])
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def _box(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:g}" class="{style}"/>'


def timelines(title: str, panels: Mapping[str, Sequence[Life]], seconds: float) -> str:
    """Draw the lives of processes, with one lane for each name, and a cross at each crash or kill."""
    parts, y, scale = [], 52.0, (_RIGHT - _LEFT) / seconds
    for caption, lives in panels.items():
        parts.append(_text(16, y, caption, "small"))
        for name in dict.fromkeys(life.name for life in lives):
            y += 22
            parts += [_text(_LEFT - 10, y + 4, name, "", "end"), _line(_LEFT, y, _RIGHT, y, "lane")]
            own = [life for life in lives if life.name == name]
            # Draw the marks last, so that the bar of the next life does not cover them.
            parts += [_bar(life, y, scale, seconds) for life in own]
            parts += [_mark(life, y, scale) for life in own if life.how != "alive"]
        y += 32
    parts += _axis(y, seconds, "seconds")
    return _svg(title, y + 26, parts)


def _bar(life: Life, y: float, scale: float, seconds: float) -> str:
    end = seconds if life.end is None else min(life.end, seconds)
    return _box(_LEFT + life.start * scale, y - 6, (end - life.start) * scale - 2, 12, "alive")


def _mark(life: Life, y: float, scale: float) -> str:
    end = _LEFT + (life.end or 0.0) * scale - 1
    if life.how == "stopped":
        return _line(end, y - 9, end, y + 9, "mark stopped")
    cross = f"M{end - 6:.1f} {y - 8:.1f}l12 16m0 -16l-12 16"
    return f'<path d="{cross}" class="mark {life.how}"/>'


def _axis(y: float, most: float, name: str) -> list[str]:
    ticks = [most * number / 5 for number in range(6)]
    places = [_LEFT + (_RIGHT - _LEFT) * number / 5 for number in range(6)]
    parts = [
        _text(x, y, f"{tick:g}", "small", "middle") for x, tick in zip(places, ticks, strict=True)
    ]
    return [*parts, _text(_LEFT - 14, y, name, "small", "end")]


def bars(title: str, rows: Sequence[tuple[str, float, str]], most: float, unit: str) -> str:
    """Draw one bar for each row of a label, a value and a note. A value above `most` reaches the edge."""
    parts, y = [], 44.0
    for label, value, note in rows:
        width = (_RIGHT - _LEFT - 190) * min(value / most, 1)
        parts += [
            _text(_LEFT - 10, y + 13, label, "", "end"),
            _box(_LEFT, y + 2, width, 14, "alive" if value <= most else "crashed"),
            _text(_LEFT + width + 8, y + 13, note, "small"),
        ]
        y += 24
    return _svg(title, y + 26, [*parts, _text(_LEFT, y + 14, unit, "small")])


def curves(
    title: str,
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    x: str,
    limits: Mapping[str, float] | None = None,
) -> str:
    """Draw a panel of curves for each caption. A curve has one value for each step of `x`."""
    parts, y = [], 52.0
    for caption, named in panels.items():
        parts.append(_text(16, y, caption, "small"))
        parts += _panel(named, y + 14, limits or {})
        y += _PANEL + 50
    steps = max(len(values) for named in panels.values() for values in named.values())
    return _svg(title, y + 12, [*parts, *_axis(y - 14, steps, x)])


def _panel(
    named: Mapping[str, Sequence[float]], y: float, limits: Mapping[str, float]
) -> list[str]:
    bottom, steps = y + _PANEL, max(map(len, named.values()))
    most = max(map(max, named.values())) or 1

    def point(step: float, value: float) -> str:
        return f"{_LEFT + (_RIGHT - _LEFT) * step / steps:.1f},{bottom - _PANEL * value / most:.1f}"

    parts = [
        _line(_LEFT, bottom, _RIGHT, bottom, "line"),
        _text(_LEFT - 8, y + 4, f"{most:g}", "small", "end"),
        _text(_LEFT - 8, bottom + 4, "0", "small", "end"),
    ]
    for text, at in limits.items():
        place = _LEFT + (_RIGHT - _LEFT) * at / steps
        parts += [
            _line(place, y - 4, place, bottom, "limit"),
            _text(place + 4, y + 4, text, "small"),
        ]
    for number, (name, values) in enumerate(named.items()):
        # Draw a step for each value, because the value holds for the whole second.
        points = " ".join(
            f"{point(step, value)} {point(step + 1, value)}" for step, value in enumerate(values)
        )
        place = y + 26 + 18 * number
        parts += [
            f'<polyline points="{points}" class="curve c{number}"/>',
            _line(16, place, 34, place, f"curve c{number}"),
            _text(40, place + 4, name, "small"),
        ]
    return parts


def squares(title: str, rows: Mapping[str, Sequence[tuple[str, str]]], legend: str) -> str:
    """Draw one row of squares for each label. A square has a text and a style."""
    parts, y = [], 44.0
    for label, cells in rows.items():
        parts.append(_text(16, y + 19, label))
        for number, (text, style) in enumerate(cells):
            place = 300 + number * 43
            parts.append(_box(place, y, 38, 28, style))
            parts.append(
                f'<text x="{place + 19}" y="{y + 19:.1f}" style="fill:#fff" text-anchor="middle">{escape(text)}</text>'
            )
        y += 38
    return _svg(title, y + 26, [*parts, _text(16, y + 12, legend, "small")])
