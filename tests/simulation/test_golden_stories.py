"""The stories of nine typical bugs of applications name the causes.

After a change of the wording, write the stories again with `python -m tests.simulation.test_golden_stories`, and read
the difference. A reader who has not seen the program must find the cause in each story.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervision.laboratory.simulation.search.sweep import sweep
from supervision.laboratory.simulation.shrinking.shrink import shrink
from tests.simulation.stories import (
    call_cycle,
    dead_pid_kept,
    deadlock_at_shutdown,
    double_charge,
    leaked_subscription,
    lost_update,
    no_resubscribe,
    poison_message,
    stale_cache,
)

FOLDER = Path(__file__).parent / "stories"
SEEDS = 20

STORIES: dict[str, Callable[[Any], Any]] = {
    "lost_update": lost_update.market_day,
    "no_resubscribe": no_resubscribe.a_day_of_news,
    "dead_pid_kept": dead_pid_kept.a_day_in_the_shop,
    "call_cycle": call_cycle.orders_come_in,
    "leaked_subscription": leaked_subscription.a_day_of_prices,
    "double_charge": double_charge.an_evening_of_orders,
    "deadlock_at_shutdown": deadlock_at_shutdown.a_clean_stop,
    "stale_cache": stale_cache.prices_change,
    "poison_message": poison_message.a_morning_of_jobs,
}


def told(name: str) -> str:
    """Find the bug with the first seeds, shrink the failure, and return its story and the nearest run that passes."""
    results = sweep(STORIES[name], range(1, SEEDS + 1), check=0, jobs=0)
    run = next(result.run for result in results if result.failure is not None)
    assert run is not None
    # Stop the clock, so that shrinking has no time limit. The result must not depend on the load of the machine.
    shrunk = shrink(run, max_runs=40, clock=lambda: 0.0)
    return f"{shrunk.story}\n{shrunk.difference}\n"


@pytest.mark.parametrize("name", STORIES)
def test_a_story_shows_the_cause_of_a_typical_bug(name: str) -> None:
    assert told(name) == (FOLDER / f"{name}.txt").read_text()


if __name__ == "__main__":
    for each in sys.argv[1:] or STORIES:
        (FOLDER / f"{each}.txt").write_text(told(each))
