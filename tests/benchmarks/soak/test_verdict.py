from collections import Counter
from typing import Any

import pytest

from tests.benchmarks.soak.__main__ import EXPECTED, unexpected_lines
from tests.benchmarks.soak.faults import Fault, FaultKind, count_outside, plan
from tests.benchmarks.soak.ledger import Account, Delivery
from tests.benchmarks.soak.verdict import (
    Sample,
    checks,
    delivery_checks,
    fault_checks,
    parse_metrics,
    rss_near,
)

QUIET = {"ashtree_processes": 19.0, "soak_tasks": 34.0, "process_open_fds": 16.0}


def run(**changes: Any) -> list[str]:
    """Return the checks that fail after these changes to a good run."""
    counts = Counter(dict.fromkeys(EXPECTED, 0))
    counts.update(answered=9, crashes=9, vanished=9, slow=9, rubbish=9, replacements=4)
    counts.update(changes.pop("counts", {}))
    good: dict[str, Any] = {
        "counts": counts,
        "memory": {"a": (100e6, 104e6), "b": (50e6, 50e6)},
        "before": {"1": QUIET, "2": QUIET},
        "after": {"3": {**QUIET, "ashtree_out_buffer_overflows_total": 5.0}, "4": QUIET},
        "servers": 2,
        "processes": 4,
        "left_over": 0,
        "exit_codes": [0, 0],
        "unexpected": [],
    }
    return [check.what for check in checks(**{**good, **changes}) if not check.passed]


def test_a_good_run_passes_every_check() -> None:
    assert run() == []


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"counts": {"lost_replies": 1}}, "no reply is lost"),
        ({"counts": {"lost_broadcasts": 1}}, "no client misses its own broadcast"),
        ({"counts": {"failed_rejoins": 1}}, "every crashed channel is joined again"),
        (
            {"counts": {"refused": 1}},
            "the system refuses no connection while the parent lives",
        ),
        (
            {"counts": {"not_accepted": 1}},
            "each upgrade gets its answer, except after a kill",
        ),
        (
            {"counts": {"cut": 1}},
            "no connection ends without a closing frame, except by a kill",
        ),
        (
            {"counts": {"member_crashes": 1}},
            "no channel of a member crashes, except a durable one",
        ),
        ({"counts": {"replacements": -4}}, "workers were replaced"),
        ({"counts": {"slow": -9}}, "every kind of client was at work"),
        ({"memory": {"a": (100e6, 106e6)}}, "the memory of a does not grow"),
        ({"memory": {"a": (0.0, 104e6)}}, "the memory of a does not grow"),
        ({"processes": 5}, "one process for each worker"),
        ({"left_over": 1}, "no process outlives the servers"),
        ({"exit_codes": [0, 1]}, "the servers end in order"),
        ({"exit_codes": [0]}, "the servers end in order"),
        (
            {"unexpected": ["x"]},
            "the log has only the errors that clients or faults have caused",
        ),
        ({"after": {"3": QUIET}}, "the server closes clients that read too slowly"),
    ],
)
def test_each_fault_fails_its_own_check(changes: dict[str, Any], failed: str) -> None:
    assert run(**changes) == [failed]


@pytest.mark.parametrize("name", ["ashtree_connections", "ashtree_channels", "soak_tasks"])
def test_a_worker_that_keeps_resources_after_its_clients_fails(name: str) -> None:
    left = {**QUIET, "ashtree_out_buffer_overflows_total": 5.0, name: 35.0}
    (failed,) = run(after={"3": left})
    assert failed.startswith(name)


def test_metrics_are_read_by_worker_without_the_scrape_itself() -> None:
    text = (
        "# HELP ashtree_connections Open connections\n"
        'ashtree_connections{transport="websocket",worker="3"} 2.0\n'
        'ashtree_connections{transport="longpoll",worker="3"} 1.0\n'
        'ashtree_connections{transport="http",worker="3"} 1.0\n'
        'soak_tasks{worker="4"} 34.0\n'
        "soak_tasks 99.0\n"
    )
    assert parse_metrics(text) == {"3": {"ashtree_connections": 3.0}, "4": {"soak_tasks": 34.0}}


def test_the_memory_at_a_time_is_the_median_of_the_last_samples_before_it() -> None:
    samples = [Sample(second, second * 10) for second in range(100)]
    assert rss_near(samples, 50.0) == 430
    assert rss_near([], 50.0) == 0.0


def test_only_errors_that_clients_or_faults_have_caused_belong_in_the_log() -> None:
    crash = '{"level":"error","exception":"SoakCrash"}'
    other = '{"level":"ERROR","message":"another"}'
    killed = '{"level":"error","message":"worker 1 (place 2) was killed by SIGKILL"}'
    unkept = '{"level":"error","message":"the answer ... for the durable topic \'document:0\' was not kept"}'
    log = f"Serving on ...\n{crash}\n{killed}\n{unkept}\n{other}\n"
    assert unexpected_lines(log) == [other]


def failed_deliveries(
    fates: dict[str, int] | None = None,
    counters: dict[str, float] | None = None,
    **changes: int,
) -> list[str]:
    """Return the checks that fail if one of two clients has these figures beside good ones."""
    changed = Account(Counter({"heard": 9, **(fates or {})}), **{"durable": 9, **changes})
    delivery = Delivery({"ann": Account(Counter(heard=9), durable=9), "bob": changed})
    found = delivery_checks(delivery, counters or {})
    return [check.what for check in found if not check.passed]


def test_misses_that_the_nodes_or_the_documentation_admit_pass() -> None:
    admitted = {
        "missed while away": 7,
        "sent before the nodes knew each other": 1,
        "killed with its node": 2,
        "counted by the node": 3,
    }
    assert failed_deliveries(admitted) == []


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        (
            {"fates": {"counted by nobody": 1}},
            "the nodes admit each message that a client missed",
        ),
        ({"doubled": 1}, "no plain message comes twice"),
        ({"disordered": 1}, "plain messages of a sender keep their order"),
        ({"durable_lost": 1}, "no durable message is lost"),
        (
            {"counters": {"ashtree_history_lost_total": 1.0}},
            "no node counts a lost durable message",
        ),
        (
            {"counters": {"ashtree_history_evicted_topics_total": 1.0}},
            "no node counts a lost durable message",
        ),
        ({"durable_doubled": 1}, "no durable message comes twice"),
        ({"durable_disordered": 1}, "durable messages have one order"),
        ({"not_recovered": 1}, "each durable join recovers"),
    ],
)
def test_each_wrong_delivery_fails_its_own_check(changes: Any, failed: str) -> None:
    assert failed_deliveries(**changes) == [failed]


def test_a_run_in_which_no_message_arrived_fails() -> None:
    assert [check.what for check in delivery_checks(Delivery(), {}) if not check.passed] == [
        "members heard each other",
        "members got durable messages",
    ]


LIMITS: dict[str, Any] = {
    "most_serving": 30.0,
    "most_joining": 60.0,
    "most_agreeing": {**dict.fromkeys(FaultKind, 30.0), FaultKind.REPLACE: 10.0},
}


def failed_faults(**changes: Any) -> list[str]:
    """Return the checks that fail if the last fault of a run has these figures."""
    good: dict[str, Any] = {"served": 5.0, "joined": 6.0, "agreed": 10.0}
    faults = [Fault(kind, 0.0, **good) for kind in FaultKind]
    faults[-1] = Fault(FaultKind.REPLACE, 0.0, **{**good, **changes})
    found = fault_checks(faults, **LIMITS)
    return [check.what for check in found if not check.passed]


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"served": 31.0}, ["the servers serve again within 30 s"]),
        ({"served": None}, ["the servers serve again within 30 s"]),
        ({"joined": 61.0}, ["all members are joined again within 60 s"]),
        ({"joined": None}, ["all members are joined again within 60 s"]),
        (
            {"agreed": 11.0},
            ["all clients see exactly the joined clients in the documented time"],
        ),
        (
            {"agreed": None},
            ["all clients see exactly the joined clients in the documented time"],
        ),
        ({"note": "2 workers still ran"}, ["each fault passes without a remark"]),
    ],
)
def test_a_fault_whose_consequences_last_too_long_fails(
    changes: dict[str, Any], failed: list[str]
) -> None:
    assert failed_faults(**changes) == failed


def test_a_run_without_one_kind_of_fault_fails() -> None:
    found = fault_checks(
        [Fault(FaultKind.KILL_WORKER, 0.0, served=1.0, joined=1.0, agreed=1.0)], **LIMITS
    )
    assert [check.what for check in found if not check.passed] == ["each kind of fault happened"]


@pytest.mark.parametrize("minutes", [2, 5, 30, 120])
def test_a_run_of_any_length_kills_the_parent_and_restarts_valkey_twice(minutes: int) -> None:
    counts = Counter(each.kind for each in plan(minutes * 60))
    assert counts[FaultKind.KILL_PARENT] == 2
    assert counts[FaultKind.KILL_VALKEY] + counts[FaultKind.RESTART_VALKEY] == 2
    assert counts[FaultKind.REPLACE] == 4
    assert counts[FaultKind.KILL_WORKER] >= min(minutes - 1, 4)


def test_only_events_during_a_fault_of_that_kind_are_excused() -> None:
    faults = [
        Fault(FaultKind.KILL_PARENT, 10.0, ended=20.0),
        Fault(FaultKind.KILL_VALKEY, 30.0, ended=40.0),
    ]
    times = [5.0, 10.0, 15.0, 20.0, 25.0, 35.0]
    assert count_outside(times, faults, [FaultKind.KILL_PARENT]) == 3
