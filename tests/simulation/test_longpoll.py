"""Long polling in a world: holds, resumed and lost sessions, determinism."""

import os

import pytest

from supervision.laboratory.simulation.knobs import Knobs
from tests.laws.scenarios import simulate
from tests.simulation.longpoll_scenario import poll_through_a_hold, polls_under_faults

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


@pytest.mark.parametrize("seed", range(5))
def test_a_polling_client_resumes_after_a_short_hold_and_starts_again_after_a_long_one(
    seed: int,
) -> None:
    outcome = simulate(poll_through_a_hold, seed, knobs=Knobs().drawn(seed)).check()
    again = simulate(poll_through_a_hold, seed, knobs=Knobs().drawn(seed))
    assert (again.digest, again.steps_digest) == (outcome.digest, outcome.steps_digest)


def test_polling_clients_recover_from_all_network_faults() -> None:
    outcomes = [
        simulate(polls_under_faults, seed, knobs=Knobs().drawn(seed)).check()
        for seed in range(200 if DEEP else 5)
    ]
    assert any(outcome.sometimes["a session was lost"] for outcome in outcomes)
