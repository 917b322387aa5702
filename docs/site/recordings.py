"""Record the experiments of the study, for the pages of the site that play the recordings.

Where a page of docs/study has the line `<!-- recording: NAME -->`, the site shows the viewer with the recording. The
experiments run in a simulation with exact time, so each build makes the same recordings.
"""

from collections.abc import Callable
from typing import Any

from examples.study import (
    clients_message,
    crash_is_contained,
    intensity_limit,
    link_that_kills,
    mailbox_that_fills,
    restart_storm,
    slow_terminate,
    takeover,
    three_strategies,
)
from supervision.recording.reader.page import render_page
from supervision.simulation import Knobs, World, simulate

RECORDINGS: dict[str, tuple[str, Callable[[], Any]]] = {
    "crash-is-contained": (
        "One of twelve rooms crashes under a supervisor",
        crash_is_contained.under_a_supervisor,
    ),
    "intensity-limit": (
        f"A child crashes every {intensity_limit.PERIODS[0]:.1f} s",
        lambda: intensity_limit.live(intensity_limit.PERIODS[0]),
    ),
    "three-strategies": (
        "The database crashes under rest_for_one",
        lambda: three_strategies.run("rest_for_one"),
    ),
    "link-that-kills": (
        f"Linked processes: {next(iter(link_that_kills.CASES))}",
        lambda: link_that_kills.run(**next(iter(link_that_kills.CASES.values()))),
    ),
    "slow-terminate": (
        "A supervisor stops children that take their time",
        lambda: slow_terminate.run(at_once=False),
    ),
    "mailbox-that-fills": (
        "A server that refuses calls beyond 5",
        lambda: mailbox_that_fills.run(refuses=True),
    ),
    "restart-storm": (
        f"The database is away for 20 s: {next(iter(restart_storm.POLICIES))}",
        lambda: restart_storm.run(next(iter(restart_storm.POLICIES.values()))),
    ),
    "clients-message": (
        f"A channel crashes once: {next(iter(clients_message.CLIENTS))}",
        lambda: clients_message.run(*next(iter(clients_message.CLIENTS.values()))),
    ),
    "takeover": ("The owner of an auction dies in the countdown", takeover.recording),
}
"""The title and the experiment of each recording, by its name on a page of docs/study."""


def recorded(name: str) -> str:
    """Run an experiment, and return the page of the viewer with its recording.

    Raises:
        SimulationFailed: the experiment failed.
    """
    title, experiment = RECORDINGS[name]
    if name == "takeover":
        # It simulates its nodes itself, and merges their recordings.
        return render_page(experiment()[1], title=title)

    async def scenario(world: World) -> None:
        await experiment()

    # Use exact time, and run the oldest task first, as the experiment itself does.
    knobs = Knobs(quantum=0.0, policy="canonical", invariants=())
    outcome = simulate(scenario, seed=1, knobs=knobs).check()
    return render_page(outcome.trace, title=title)
