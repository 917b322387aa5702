from collections import Counter
from typing import Any

import pytest

from tests.benchmarks.soak.__main__ import EXPECTED, unexpected_lines
from tests.benchmarks.soak.verdict import Sample, checks, parse_metrics, rss_near

QUIET = {"ashtree_processes": 19.0, "soak_tasks": 34.0, "process_open_fds": 16.0}


def run(**changes: Any) -> list[str]:
    """Return the checks that fail after these changes to a good run."""
    counts = Counter(dict.fromkeys(EXPECTED, 0))
    counts.update(answered=9, crashes=9, vanished=9, slow=9, rubbish=9, replacements=4)
    counts.update(changes.pop("counts", {}))
    good: dict[str, Any] = {
        "counts": counts,
        "at_base": 100e6,
        "at_end": 104e6,
        "before": {"1": QUIET, "2": QUIET},
        "after": {"3": {**QUIET, "ashtree_out_buffer_overflows_total": 5.0}, "4": QUIET},
        "processes": 3,
        "left_over": 0,
        "exit_code": 0,
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
        ({"counts": {"refused": 1}}, "no connection is refused"),
        ({"counts": {"cut": 1}}, "no connection ends without a closing frame"),
        ({"counts": {"replacements": -4}}, "workers were replaced"),
        ({"counts": {"slow": -9}}, "every kind of client was at work"),
        ({"at_end": 106e6}, "the memory does not grow"),
        ({"at_base": 0.0}, "the memory does not grow"),
        ({"processes": 4}, "one process for each worker"),
        ({"left_over": 1}, "no process outlives the server"),
        ({"exit_code": 1}, "the server ends in order"),
        ({"unexpected": ["x"]}, "the log has only the crashes that clients asked for"),
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


def test_only_crashes_that_clients_asked_for_belong_in_the_log() -> None:
    crash = '{"level":"error","exception":"SoakCrash"}'
    other = '{"level":"ERROR","message":"another"}'
    assert unexpected_lines(f"Serving on ...\n{crash}\n{other}\n") == [other]
