"""The recovery figures of a recorder: each incident counts once, in order, and the counters only rise."""

from __future__ import annotations

import trio

from actors import open_runtime, spawn
from channels.operations.recorded_recovery import (
    GIVEN_UP_SECONDS,
    MAX_CHILDREN,
    SETTLED_SECONDS,
    Found,
    RecordedRecovery,
    Totals,
)
from supervision.recording.flight import FlightRecorder
from supervision.recording.reader.model import Recovery


def incident(t: float, *, number: int | None = None, **recovery: object) -> Found:
    figures = Recovery(**recovery)  # type: ignore[arg-type]
    return Found(int(t) if number is None else number, t, figures, [])


def counted(totals: Totals) -> dict[str, float]:
    return {name: value for name, labels, value in totals.figures() if not labels}


def test_an_incident_counts_once_when_everything_is_back() -> None:
    totals = Totals()
    back = incident(10.0, restarted_after=0.5, messages_lost=2)
    assert totals.take([back], 10.0 + SETTLED_SECONDS / 2)
    assert counted(totals)["ashtree_recovery_incidents_total"] == 0
    for _ in range(2):
        assert not totals.take([back], 10.0 + SETTLED_SECONDS)
        found = counted(totals)
        assert found["ashtree_recovery_incidents_total"] == 1
        assert found["ashtree_recovery_messages_lost_total"] == 2
        assert found["ashtree_recovery_restarted_seconds_sum"] == 0.5


def test_an_incident_without_an_end_counts_after_a_minute_and_the_next_ones_wait_for_it() -> None:
    totals = Totals()
    incidents = [incident(1.0, not_rejoined=1), incident(2.0)]
    assert totals.take(incidents, GIVEN_UP_SECONDS)
    assert counted(totals)["ashtree_recovery_incidents_total"] == 0
    assert not totals.take(incidents, 1.0 + GIVEN_UP_SECONDS)
    assert counted(totals)["ashtree_recovery_incidents_total"] == 2


def test_the_counters_stay_when_the_recorder_has_forgotten_the_incidents() -> None:
    totals = Totals()
    totals.take([incident(1.0)], 100.0)
    assert not totals.take([], 200.0)
    totals.begin_recorder()
    totals.take([incident(0.5)], 100.0)
    assert counted(totals)["ashtree_recovery_incidents_total"] == 2


def test_two_incidents_at_the_same_time_count_twice() -> None:
    totals = Totals()
    both = [incident(1.0, number=7), incident(1.0, number=8)]
    for _ in range(2):
        totals.take(both, 100.0)
        assert counted(totals)["ashtree_recovery_incidents_total"] == 2


def test_metrics_follow_prometheus() -> None:
    totals = Totals()
    totals.take([Found(1, 1.0, Recovery(messages_lost=2), [1.0])], 100.0)
    found = {(name, *labels.values()): value for name, labels, value in totals.figures()}
    assert found["ashtree_recovery_messages_lost_total",] == 2.0
    assert found["ashtree_recovery_rejoined_seconds_bucket", "0.5"] == 0.0
    assert found["ashtree_recovery_rejoined_seconds_bucket", "1"] == 1.0
    assert found["ashtree_recovery_rejoined_seconds_bucket", "+Inf"] == 1.0
    assert found["ashtree_recovery_rejoined_seconds_sum",] == 1.0


async def test_crashes_at_the_same_time_count_once_each_while_a_full_recorder_forgets_records(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recovery = RecordedRecovery()
    async with open_runtime(log=False) as runtime:
        recorder = FlightRecorder(runtime, max_events=60)

        async def count() -> float:
            found = await recovery.figures(recorder)
            return next(
                value for name, _, value in found if name == "ashtree_recovery_incidents_total"
            )

        for begun in (2, 4, 6, 8, 10):
            spawn(trio.sleep_forever)
            for _ in range(10):
                spawn(trio.sleep, 0)
            for _ in range(2):
                spawn(crash)
            await trio.sleep(2 * GIVEN_UP_SECONDS)
            assert await count() == begun
        assert recorder.statistics()["events_dropped"] > 0


async def crash() -> None:
    raise RuntimeError("crash")


def test_the_number_of_children_with_a_counter_is_bounded() -> None:
    totals = Totals()
    totals.take([incident(1.0, restarts={f"/{n}": 1 for n in range(MAX_CHILDREN + 5)})], 100.0)
    children = {
        labels["child"]: value for _, labels, value in totals.figures() if "child" in labels
    }
    assert len(children) == MAX_CHILDREN + 1
    assert children["other"] == 5
