"""The histograms of the recovery figures: one self-contained SVG, for light and dark backgrounds.

*pure*.
"""

from __future__ import annotations

from html import escape

from supervision.recording.reader.figures import Durations, RecoveryFigures

__all__ = ["draw_figures"]

_WIDTH = 720
_BAR = 48
_HEIGHT = 120
_PANEL = 200
_LEFT = 40
_STYLE = """
svg { font: 13px system-ui, sans-serif; --ink: #1f2933; --faint: #7b8794; --bar: #2563eb; background: var(--paper);
      --paper: #ffffff; }
text { fill: var(--ink); } .small { font-size: 11px; fill: var(--faint); } .name { font-weight: 600; }
rect { fill: var(--bar); } line { stroke: var(--faint); }
@media (prefers-color-scheme: dark) { svg { --ink: #e4e7eb; --faint: #9aa5b1; --bar: #60a5fa; --paper: #16191d; } }
"""


def draw_figures(figures: RecoveryFigures, *, title: str) -> str:
    """Draw the histograms of the times to restarts and to rejoins.

    Args:
        figures: the figures.
        title: the title of the picture.
    """
    panels = (
        ("seconds from the fault to the restart", figures.restarted),
        ("seconds from the fault to the client that is joined again", figures.rejoined),
    )
    parts = [
        part
        for number, (name, durations) in enumerate(panels)
        for part in _panel(name, durations, 50 + number * _PANEL)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {60 + 2 * _PANEL}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<text class="name" x="{_LEFT}" y="28">{escape(title)}</text>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _panel(name: str, durations: Durations, top: int) -> list[str]:
    base = top + 20 + _HEIGHT
    bars = durations.histogram()
    most = max(count for _, count in bars) or 1
    summary = f"{len(durations.values)} times"
    if durations.median is not None:
        summary += f", median {durations.median:.3g} s, longest {durations.longest:.3g} s"
    parts = [
        f'<text x="{_LEFT}" y="{top}">{escape(name)}</text>',
        f'<text class="small" x="{_LEFT}" y="{top + 16}">{summary}</text>',
        f'<line x1="{_LEFT}" x2="{_LEFT + _BAR * len(bars)}" y1="{base}" y2="{base}"/>',
    ]
    for number, (bound, count) in enumerate(bars):
        left = _LEFT + number * _BAR
        height = round((_HEIGHT - 20) * count / most, 1)
        label = "more" if bound is None else f"{bound:g}"
        parts.append(
            f'<text class="small" x="{left + _BAR / 2}" y="{base + 14}" text-anchor="middle">{label}</text>'
        )
        if count:
            parts.append(
                f'<rect x="{left + 3}" y="{base - height}" width="{_BAR - 6}" height="{height}">'
                f"<title>{count}</title></rect>"
            )
            parts.append(
                f'<text class="small" x="{left + _BAR / 2}" y="{base - height - 4}" '
                f'text-anchor="middle">{count}</text>'
            )
    return parts
