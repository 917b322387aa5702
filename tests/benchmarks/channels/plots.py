"""Plots of a run as SVG. Only the benchmark's environment contains matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found] # in the environment of the benchmark

from tests.benchmarks.channels.results import Results
from tests.benchmarks.channels.rows import ROWS

mpl.use("svg")

from matplotlib import pyplot as plt

__all__ = ["draw"]

_OWN, _OTHER = "#b5482a", "#8a99a8"


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw the CPU, memory and latency of each row, and return the files."""
    rows = results.rows()
    cost = _figure(
        results,
        rows,
        lambda row: (ROWS[row].key, ROWS[row].unit, ROWS[row].scale),
    )
    files = [_save(cost, folder / "cost.svg")]
    timed = [row for row in rows if ROWS[row].key == "us_per_op"]
    if timed:
        latency = _figure(results, timed, lambda row: ("p99_ms", "p99 latency in ms", 1))
        files.append(_save(latency, folder / "latency.svg"))
    return files


def _figure(results: Results, rows: list[str], of: Any) -> Any:
    columns = 2 if len(rows) > 1 else 1
    height = -(-len(rows) // columns)
    figure, axes = plt.subplots(
        height, columns, figsize=(6.5 * columns, 2.6 * height), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(rows) :]:
        axis.set_visible(False)
    for row, axis in zip(rows, axes.flat, strict=False):
        key, label, unit = of(row)
        _bars(axis, results, row, key, unit)
        axis.set_title(ROWS[row].title, loc="left", fontsize=10)
        axis.set_xlabel(label, fontsize=8)
    return figure


def _bars(axis: Any, results: Results, row: str, key: str, unit: float) -> None:
    found = {
        results.titles[subject]: (subject, spread)
        for subject in results.subjects(row)
        if (spread := results.figure(row, subject, key))
    }
    medians = [spread.median / unit for _, spread in found.values()]
    below = [(spread.median - spread.least) / unit for _, spread in found.values()]
    above = [(spread.most - spread.median) / unit for _, spread in found.values()]
    colours = [_OWN if subject == "ashtree" else _OTHER for subject, _ in found.values()]
    axis.barh(list(found), medians, xerr=[below, above], color=colours, ecolor="#444")
    axis.invert_yaxis()
    axis.tick_params(labelsize=8)
    if medians and min(medians) > 0 and max(medians) > 30 * min(medians):
        axis.set_xscale("log")


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path)
    plt.close(figure)
    return path
