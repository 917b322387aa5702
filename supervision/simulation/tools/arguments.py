"""What the commands of simulations are given as text: scenarios, seeds."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from supervision.chaos.settings import settings_of
from supervision.command_line.arguments import load_function, parse_params
from supervision.simulation.scenario import Scenario

__all__ = [
    "load_function",
    "load_scenario",
    "parse_params",
    "parse_policy",
    "parse_seeds",
    "say_unknown",
]

_SPAN = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?")
_MOST = 10_000_000


def load_scenario(target: str) -> Scenario:
    """The scenario called `module:function`, imported as `python -m` would.

    Raises:
        typer.BadParameter: there is none; says what is there instead.
    """
    scenario: Scenario = load_function(
        target, "scenario, which is an async function of one argument, the world"
    )
    return scenario


def say_unknown(target: str, scenario: Scenario, names: Iterable[str]) -> None:
    """Say on standard error which parameters a scenario with parameters does not declare: most are mistyped.

    No error, since a scenario may look for parameters that it does not declare.
    """
    known = settings_of(scenario).params
    unknown = [name for name in dict.fromkeys(names) if known and name not in known]
    if unknown:
        sys.stderr.write(
            f"{target} declares no parameter {', '.join(map(repr, unknown))}; it has {', '.join(known)}\n"
        )


def parse_seeds(text: str) -> Sequence[int]:
    """Seeds as one writes them: `7`, `1-1000`, `1-10,40,50-60`.

    Raises:
        typer.BadParameter: it is something else.
    """
    spans = []
    for part in text.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            raise typer.BadParameter(
                f"{part.strip()!r} are no seeds; write a number, a span such as 1-1000, or several with commas"
            )
        first = int(match[1])
        last = int(match[2] or first)
        if last < first:
            raise typer.BadParameter(f"{part.strip()} ends before it begins; write {last}-{first}")
        spans.append(range(first, last + 1))
    if sum(map(len, spans)) > _MOST:
        raise typer.BadParameter(f"{text} are more than {_MOST} seeds; sweep them in parts")
    if len(spans) == 1:
        return spans[0]
    return list(dict.fromkeys(seed for span in spans for seed in span))


def parse_policy(text: str) -> tuple[str, dict[str, Any]]:
    """A policy as `NAME: KEY=VALUE KEY=VALUE`, or as `KEY=VALUE KEY=VALUE`, which is its name then.

    Raises:
        typer.BadParameter: a part of it is no parameter.
    """
    name, colon, rest = text.partition(":")
    if not colon or "=" in name:
        name = rest = text
    return name.strip(), parse_params(rest.split())
