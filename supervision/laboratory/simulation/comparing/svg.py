"""The picture of a comparison: one self-contained SVG, for light and dark backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import fmean

from attrs import frozen

from supervision.laboratory.simulation.comparing.statistics import Paired

__all__ = ["Panel", "draw"]

_WIDTH = 860
_LEFT = 150  # the left end of the scale, right of the names
_RIGHT = 540  # the right end of the scale
_DIFFERENCE = (600, 830)  # both ends of the scale of the differences
_ROW = 30
_HEAD = 34
_GAP = 26
_TOP = 56

_STYLE = """
svg { font: 13px system-ui, sans-serif; --ink: #1f2933; --faint: #9aa5b1; --paper: #ffffff; background: var(--paper); }
text { fill: var(--ink); }
.title { font-size: 16px; font-weight: 600; }
.name { font-weight: 600; }
.small { font-size: 11px; fill: var(--faint); }
.axis { stroke: var(--faint); stroke-width: 1; }
.zero { stroke: var(--faint); stroke-dasharray: 3 3; }
.mean { stroke: var(--ink); stroke-width: 2.5; }
.interval { stroke-width: 3; }
.c0 { fill: #2563eb; stroke: #2563eb; } .c1 { fill: #d97706; stroke: #d97706; }
.c2 { fill: #059669; stroke: #059669; } .c3 { fill: #9333ea; stroke: #9333ea; }
circle { fill-opacity: 0.35; stroke: none !important; }
.point { fill-opacity: 1; }
@media (prefers-color-scheme: dark) { svg { --ink: #e4e7eb; --faint: #7b8794; --paper: #16191d; } }
"""
_COLOURS = 4


@frozen(kw_only=True)
class Panel:
    """One figure.

    Attributes:
        name: the name of the figure.
        rows: the policies with their values.
        differences: the policies with their differences from the first.
    """

    name: str
    rows: Sequence[tuple[str, Sequence[float]]]
    differences: Sequence[tuple[str, Paired]]


def draw(title: str, panels: Sequence[Panel]) -> str:
    """Draw all figures, one below the other."""
    parts: list[str] = []
    top = _TOP
    alike = [
        panel for panel in panels if len({value for _, row in panel.rows for value in row}) < 2
    ]
    for panel in panels:
        if panel not in alike:
            parts += _panel(panel, top)
            top += _HEAD + _ROW * len(panel.rows) + _GAP
    if alike:
        values = ", ".join(f"{panel.name} {_number(_only(panel))}" for panel in alike)
        text = f"the same in every run: {values}"
        parts.append(f'<text x="16" y="{top + 8}">{escape(text)}</text>')
        top += _ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<text class="title" x="16" y="28">{escape(title)}</text>',
            f'<text class="small" x="{_LEFT}" y="46">each dot is a run, the line is the mean</text>',
            f'<text class="small" x="{_DIFFERENCE[0]}" y="46">mean difference within a seed, 95 %</text>',
            *parts,
            "</svg>",
            "",
        ]
    )


@frozen
class _Scale:
    """A scale from values to coordinates."""

    low: float
    high: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.left + share * (self.right - self.left), 1)


def _panel(panel: Panel, top: float) -> list[str]:
    values = [value for _, row in panel.rows for value in row] or [0.0]
    scale = _Scale(min(0.0, *values), max(values) or 1.0, _LEFT, _RIGHT)
    base = top + _HEAD - 12 + _ROW * len(panel.rows)
    parts = [
        f'<text class="name" x="16" y="{top + 8}">{escape(panel.name)}</text>',
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{base}" y2="{base}"/>',
        f'<text class="small" x="{_LEFT}" y="{base + 14}">{_number(scale.low)}</text>',
        f'<text class="small" x="{_RIGHT}" y="{base + 14}" text-anchor="end">{_number(scale.high)}</text>',
    ]
    for index, (policy, row) in enumerate(panel.rows):
        parts += _row(policy, row, scale, top + _HEAD - 6 + _ROW * index, index)
    return parts + _differences(panel, top, base)


def _row(policy: str, values: Sequence[float], scale: _Scale, y: float, index: int) -> list[str]:
    colour = f"c{index % _COLOURS}"
    parts = [f'<text x="16" y="{y + 4}">{escape(policy)}</text>', f'<g class="{colour}">']
    for number, value in enumerate(values):
        # Spread over the height of the row, so that equal values do not hide each other.
        spread = round((number * 0.618 % 1 - 0.5) * 0.6 * _ROW, 1)
        parts.append(f'<circle cx="{scale(value)}" cy="{y + spread:.1f}" r="3"/>')
    parts.append("</g>")
    if values:
        x = scale(fmean(values))
        parts.append(f'<line class="mean" x1="{x}" x2="{x}" y1="{y - 11}" y2="{y + 11}"/>')
    return parts


def _differences(panel: Panel, top: float, base: float) -> list[str]:
    if not panel.differences:
        return []
    far = max(max(abs(each.low), abs(each.high)) for _, each in panel.differences) or 1.0
    scale = _Scale(-far, far, *_DIFFERENCE)
    middle = scale(0.0)
    names = [policy for policy, _ in panel.rows]
    parts = [
        f'<line class="zero" x1="{middle}" x2="{middle}" y1="{top + 16}" y2="{base}"/>',
        f'<text class="small" x="{_DIFFERENCE[0]}" y="{base + 14}">{_number(-far)}</text>',
        f'<text class="small" x="{_DIFFERENCE[1]}" y="{base + 14}" text-anchor="end">{_number(far)}</text>',
    ]
    for policy, each in panel.differences:
        index = names.index(policy)
        colour = f"c{index % _COLOURS}"
        y = top + _HEAD - 6 + _ROW * index
        parts += [
            f'<line class="interval {colour}" x1="{scale(each.low)}" x2="{scale(each.high)}" y1="{y}" y2="{y}"/>',
            f'<circle class="point {colour}" cx="{scale(each.mean)}" cy="{y}" r="5"/>',
        ]
    return parts


def _only(panel: Panel) -> float:
    return next((value for _, row in panel.rows for value in row), 0.0)


def _number(value: float) -> str:
    return f"{value:.3g}"
