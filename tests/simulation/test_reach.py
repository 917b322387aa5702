"""The share of the product that a sweep reaches."""

from __future__ import annotations

import io

from supervision.applications.command_line.console import plain_console
from tests.simulation.campaign import Sweep
from tests.simulation.campaign_output import print_reach
from tests.simulation.sweeps.reach import Reached, measured, modules, share_of, unreached

TOKENS = Sweep("tokens", "tests.simulation.sweeps.channels.tokens:tokens")
TIMERS = Sweep("timers", "tests.simulation.sweeps.timers:timers")
TIMER_MODULE, TOKEN_MODULE = "actors/timers.py", "channels/tokens/token.py"
LAST = "channels/cli/command.py"


def test_each_sweep_reaches_its_own_modules() -> None:
    sweeps = [TOKENS, TIMERS]
    tokens, timers = measured(sweeps, [1], jobs=2)
    assert TOKEN_MODULE not in unreached([tokens])
    assert TOKEN_MODULE in unreached([timers])
    assert TIMER_MODULE in unreached([tokens])
    assert TIMER_MODULE not in unreached([timers])
    assert LAST in unreached([tokens, timers])
    one, other, both = share_of([tokens]), share_of([timers]), share_of([tokens, timers])
    assert 0 < one.lines < both.lines < 1
    assert max(one.lines, other.lines) < both.lines < one.lines + other.lines
    assert max(one.branches, other.branches) < both.branches < one.branches + other.branches
    text = io.StringIO()
    print_reach(plain_console(file=text), sweeps, [tokens, timers], 1)
    shown = text.getvalue()
    assert "share of the product that 1 seeds of each sweep reach" in shown
    assert f"{one.lines:.1%}" in shown
    assert f"  {LAST}\n" in shown
    assert f"  {TOKEN_MODULE}\n" not in shown


def test_the_share_of_all_lines_and_branches_is_everything() -> None:
    name = TIMER_MODULE
    module = modules()[name]
    everything = Reached(
        {each: sorted(found.lines) for each, found in modules().items()},
        {
            each: [(line, exit) for line, count in found.exits.items() for exit in range(count)]
            for each, found in modules().items()
        },
    )
    share = share_of([everything])
    assert (share.lines, share.branches) == (1.0, 1.0)
    assert unreached([everything]) == []
    assert share_of([]) == type(share)(0.0, 0.0)
    # The first line of a module is outside of functions.
    assert 1 not in module.lines
    assert all(count > 1 for count in module.exits.values())
