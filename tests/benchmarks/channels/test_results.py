from io import StringIO
from typing import Any

from rich.console import Console

from tests.benchmarks.channels.report import goal_table, markdown, short, tables
from tests.benchmarks.channels.results import Results, goals, joined
from tests.benchmarks.channels.rows import RESERVED_FILES, ROWS, load_of, within
from tests.benchmarks.channels.subjects import SUBJECTS


def sample(row: str, subject: str, turn: int, **figures: Any) -> dict[str, Any]:
    return {"row": row, "subject": subject, "round": turn, "figures": figures}


def results() -> Results:
    found = Results({"cores": "2"}, {"ashtree": "Ashtree", "floor": "bare Trio server"})
    for turn, (own, floor) in enumerate([(6.0, 10.0), (8.0, 10.0), (7.0, 20.0)]):
        shared = {"rate": 1000.0, "p50_ms": 1.0, "p99_ms": 3.0, "mean_ms": 2.0}
        for subject, cost in (("ashtree", own), ("floor", floor)):
            found.samples.append(
                sample("echo-1000x1", subject, turn, us_per_op=cost, generator_share=0.5, **shared)
            )
    found.samples.append(
        sample("idle", "ashtree", 0, bytes_per_connection=20480.0, kernel_bytes=3000.0)
    )
    return found


def test_a_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    ratio = results().ratio("echo-1000x1", "ashtree", "floor", "us_per_op")
    assert ratio is not None
    assert ratio.median == 0.6


def test_goals_compare_with_the_floor_and_with_fixed_limits() -> None:
    verdicts = {(goal.row, goal.what): goal.verdict for goal in goals(results())}
    assert verdicts == {
        ("echo-1000x1", "CPU to the bare server's"): "met",
        ("echo-1000x1", "p99 latency to the mean"): "met",
        ("idle", "KB per connection"): "missed",
    }


def test_a_generator_that_used_its_whole_core_is_reported() -> None:
    found = results()
    assert found.saturated() == []
    found.samples = [sample("join", "floor", 0, us_per_op=1.0, generator_share=0.99)]
    assert found.saturated() == ["join, floor: 0.99 of a core"]


def test_failures_and_lost_answers_are_reported() -> None:
    found = results()
    assert found.errors() == []
    found.samples = [
        {"row": "join", "subject": "floor", "round": 1, "error": "TooLate: ..."},
        sample("join", "ashtree", 1, lost=2, wrong=0),
    ]
    assert found.errors() == [
        "join, floor, round 1: TooLate: ...",
        "join, ashtree, round 1: 2 lost, 0 wrong answers",
    ]


def test_the_tables_show_each_server_with_its_command() -> None:
    output = StringIO()
    console = Console(file=output, width=120)
    console.print(tables(results()))
    console.print(goal_table(goals(results())))
    shown = output.getvalue()
    assert "make bench ARGS='--only echo-1000x1'" in shown
    assert [line.split()[:5] for line in shown.splitlines() if "6.00 to 8.00" in line] == [
        ["Ashtree", "7.00", "6.00", "to", "8.00"]
    ]


def test_the_markdown_has_the_ratio_in_brackets_and_the_commands() -> None:
    text = markdown(results())
    assert "| Ashtree | 7.00 (0.60) |" in text
    assert "| bare Trio server | 10.0 |" in text
    assert "| Ashtree | 20,480 | 3,000 |" in text
    assert "| memory per idle connection | `make bench ARGS='--only idle'` |" in text


def test_numbers_have_about_three_significant_digits() -> None:
    assert [short(value) for value in (0.123, 1.234, 12.34, 1234.5)] == [
        "0.12",
        "1.23",
        "12.3",
        "1,234",
    ]


def test_a_quick_run_needs_fewer_operations() -> None:
    load = load_of(ROWS["join"], seconds=1.0, is_quick=True, is_peer=False)
    assert (load.operations, load.seconds) == (1000, 1.0)
    full = load_of(ROWS["join"], seconds=1.0, is_quick=False, is_peer=False)
    assert full.operations == ROWS["join"].load.operations


def test_only_servers_with_crashes_take_part_in_the_crash_row() -> None:
    takers = {name for name, each in SUBJECTS.items() if each.takes_part_in(ROWS["crash"])}
    assert takers == set(SUBJECTS) - {"socketio"}
    logged = [name for name, each in SUBJECTS.items() if each.takes_part_in(ROWS["crash-logged"])]
    assert logged == ["ashtree"]


def test_a_row_of_joined_runs_comes_from_the_latest_run_that_has_it() -> None:
    later = Results(
        {}, {"floor": "bare Trio server"}, [sample("idle", "floor", 0, kernel_bytes=1.0)]
    )
    found = joined([results(), later])
    assert found.rows() == ["echo-1000x1", "idle"]
    assert found.subjects("idle") == ["floor"]
    assert found.titles == {"ashtree": "Ashtree", "floor": "bare Trio server"}


def test_a_low_limit_of_open_files_means_fewer_connections() -> None:
    load = ROWS["heartbeats"].load
    assert within(load, 20_000) == load
    assert within(load, 4096).connections == 4096 - RESERVED_FILES
    found = Results(samples=[{"row": "heartbeats", "subject": "ashtree", "connections": 3596}])
    assert found.reduced() == ["heartbeats, ashtree: 3,596 connections"]


def test_one_long_pause_of_many_rounds_misses_the_goal() -> None:
    found = Results(
        {},
        {"ashtree": "Ashtree"},
        [
            sample("pauses", "ashtree", turn, pause_ms=pause)
            for turn, pause in enumerate([5, 5, 90])
        ],
    )
    assert [(goal.value, goal.verdict) for goal in goals(found)] == [(90, "missed")]
    output = StringIO()
    Console(file=output, width=160).print(tables(found))
    assert "longest pause in ms: 90.00, goal 25: missed" in output.getvalue()
    assert "--only pauses --seconds 600 --rounds 1" in output.getvalue()
