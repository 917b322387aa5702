"""The journal of the examples loses nothing, and the simulation finds five wrong orders of its syncs."""

from __future__ import annotations

import os
from typing import Any

import pytest
from msgspec import DecodeError, json

from examples.scenarios.journal import FAULTS, NEW_STATE, STATE, Store, lose_power, power_failures
from supervision.laboratory.simulation.shrinking.shrink import shrink
from supervision.simulation import World, tell
from tests.laws.scenarios import scenario, simulate

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


class NeverSyncs(Store):
    """A store that acknowledges a put without a sync."""

    def sync_journal(self) -> None:
        pass


class SyncsNoName(Store):
    """A store whose new journal has synced content, and a name that was never synced."""

    def sync_names(self) -> None:
        pass


class RenamesUnsynced(Store):
    """A store that gives a name to content that is not on the disk."""

    def write_state(self) -> None:
        self.disk.open(NEW_STATE, "w").write(json.encode(self.values))


class SyncsNoRename(Store):
    """A store that empties its journal while the rename may still be lost."""

    def empty_journal(self) -> None:
        self.write_state()
        self.disk.rename(NEW_STATE, STATE)
        self.journal.truncate()
        self.journal.fsync()


class EmptiesFirst(Store):
    """A store that empties its journal before the new state has its name."""

    def empty_journal(self) -> None:
        self.write_state()
        self.journal.truncate()
        self.journal.fsync()
        self.disk.rename(NEW_STATE, STATE)
        self.disk.sync_directory("data")


BUGS = (NeverSyncs, SyncsNoName, RenamesUnsynced, SyncsNoRename, EmptiesFirst)


@scenario(faults=FAULTS, params={"puts": 20, "seconds": 4.0})
async def buggy(world: World) -> None:
    await lose_power(world, BUGS[world.params["bug"]])


def test_the_journal_loses_no_acknowledged_value() -> None:
    seen = [simulate(power_failures, seed).check() for seed in range(1, 1001 if DEEP else 51)]
    assert any(each.sometimes["a put survives without an answer"] for each in seen)


@pytest.mark.parametrize("bug", range(len(BUGS)), ids=[each.__name__ for each in BUGS])
def test_a_wrong_order_of_syncs_is_found_and_shrinks_to_a_power_failure(bug: int) -> None:
    outcomes = (simulate(buggy, seed, params={"bug": bug}) for seed in range(1, 101))
    failed: Any = next(each for each in outcomes if each.error is not None)
    # An incomplete state cannot be read, or has too few values.
    assert isinstance(failed.error, DecodeError) or "was acknowledged" in str(failed.error)
    small: Any = shrink(failed).outcome
    assert len(small.faults) <= 2
    assert any(fault.power for fault in small.faults)
    assert "the disk of a lost " in tell(small)
