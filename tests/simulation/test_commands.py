"""`ashtree simulate` and `ashtree replay`: output, files and exit codes."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from channels.cli import command as cli
from supervision.recording.schema import SCHEMA_VERSION
from tests.simulation.sweep_scenarios import FAILURES, Answers

Run = Callable[..., tuple[int, str, str]]

HERE = "tests.simulation.sweep_scenarios"
QUICK = ("--jobs", "0", "--check", "0")
KEPT = "--RuntimeError-in-line-5-of-changeable"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command in an empty folder, and return its exit code, its output and its errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ashtree", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return code, out, err

    return call


def kept(folder: Path) -> list[Path]:
    return sorted((folder / ".ashtree" / "corpus").glob("*.json"))


def test_a_sweep_without_failures_reports_that_and_keeps_no_file(run: Run, tmp_path: Path) -> None:
    code, out, err = run("simulate", f"{HERE}:rarely_fails", "--seeds", "2-5,7", *QUICK)
    assert code == 0
    assert "5, 5 passed, 0 failed" in out
    assert "seeds/s" in out
    assert "5 of 5 seeds, 0 failed" in err
    assert not list(tmp_path.iterdir())


def test_a_failure_is_reported_kept_and_can_be_replayed(run: Run, tmp_path: Path) -> None:
    code, out, err = run("simulate", f"{HERE}:rarely_fails", "--seeds", "1-40", *QUICK)
    assert code == 1
    assert "x invariant check in line 7 of rarely_fails (seeds" in out
    assert "x ValueError in line 6 of rarely_fails (seeds" in out
    assert "the story:" in out
    assert "what a scenario prints" not in out
    first, second = kept(tmp_path)
    for file in (first, second):
        command = f"ashtree replay {file.relative_to(tmp_path)}"
        assert command in out
        # On a terminal, the command asks before it imports what the file names.
        code, said, err = run(*command.split()[1:], "--import")
        assert code == 1
        assert "the same run, to the byte" in said
        assert "Traceback" in said
        assert "tests/simulation/sweep_scenarios.py" in said
        assert "trio/_core" not in said
        assert err == ""


def test_without_shrinking_the_corpus_keeps_the_original_run(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("simulate", f"{HERE}:changeable", "--seeds", "4", "--no-shrink", *QUICK)
    assert code == 1
    assert "the story" not in out
    assert json.loads(kept(tmp_path)[0].read_text())["knobs"]["policy"] != "canonical"


def test_a_sweep_replays_the_corpus_first_and_reports_fixed_failures(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = ("simulate", f"{HERE}:changeable", "--seeds", "1-3", *QUICK)
    assert run(*sweep)[0] == 1
    code, out, _ = run(*sweep)
    assert code == 1
    assert f"{KEPT}--1.json still fails (RuntimeError in line 5 of changeable)" in out
    monkeypatch.setattr(Answers, "problem", LookupError("another"))
    code, out, _ = run(*sweep)
    assert code == 1
    assert (
        "has changed: it was RuntimeError in line 5 of changeable, and is now LookupError: " in out
    )
    monkeypatch.setattr(Answers, "problem", None)
    code, out, _ = run(*sweep)
    assert code == 0
    assert f"{KEPT}--1.json is fixed (RuntimeError in line 5 of changeable before)" in out
    assert "LookupError-in-line-5-of-changeable--1.json is fixed" in out


def test_a_fixed_file_does_not_replace_a_new_failure_of_its_kind(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = ("simulate", f"{HERE}:changeable", "--seeds", "1-3", *QUICK)
    run(*sweep)
    monkeypatch.setattr(Answers, "spared", frozenset({1}))
    code, out, _ = run(*sweep)
    assert code == 1
    assert f"{KEPT}--1.json is fixed" in out
    assert [path.name.rpartition("--")[2] for path in kept(tmp_path)] == ["1.json", "2.json"]
    assert f"{KEPT}--2.json\n" in out


@pytest.mark.parametrize(
    "command", [["simulate"], ["compare", "--policy", "a: b=1", "--policy", "c: b=2"]], ids=str
)
def test_sigterm_ends_the_processes_of_a_search_too(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    file = tmp_path / "pid"
    target = (f"{HERE}:terminates_the_search", "--seeds", "1", "--jobs", "1")
    code, _, _ = run(*command, *target, "--params", f'file="{file}"')
    assert code == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


def test_a_sweep_ends_after_enough_failures(run: Run) -> None:
    sweep = ("simulate", f"{HERE}:checks_at_every_seed", "--seeds", "1-100", *QUICK)
    _, out, err = run(*sweep, "--stop-after", "3")
    assert "3, 0 passed, 3 failed" in out
    assert "stopped after 3 failures" in err
    _, out, _ = run(*sweep, "--stop-after", "0")
    assert "100, 0 passed, 100 failed" in out


def test_parameters_reach_the_scenario(run: Run) -> None:
    sweep = ("simulate", f"{HERE}:rarely_fails", "--seeds", "1-40", *QUICK, "--no-shrink")
    _, out, _ = run(*sweep, "--params", "most=0.2", "--corpus", "a")
    assert "ValueError: 0." in out
    _, out, _ = run(*sweep, "--params", "most=2", "--corpus", "b")
    assert "ValueError" not in out.partition("speed")[0]


def test_the_report_is_written_as_json_the_same_each_time(run: Run, tmp_path: Path) -> None:
    sweep = ("simulate", f"{HERE}:rarely_fails", "--seeds", "1-40", "--check", "0")
    assert run(*sweep, "--jobs", "0", "--json", "one.json", "--corpus", "a")[0] == 1
    assert run(*sweep, "--jobs", "2", "--json", "two.json", "--corpus", "b")[0] == 1
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    for report in (one, two):
        for finding in report["findings"]:
            finding["file"] = Path(finding["file"]).name
    assert one == two
    assert one["passed"] is False
    assert one["seeds"] == 40
    assert {each["failure"] for each in one["failures"]} == FAILURES


def test_a_lost_run_is_reported_with_a_command_that_repeats_it(run: Run) -> None:
    code, out, _ = run(
        *("simulate", f"{HERE}:ends_its_process", "--seeds", "3", "--jobs", "1"),
        *("--params", "name=a b", "--check", "0"),
    )
    assert code == 1
    assert "Segmentation fault" in out
    assert f"ashtree simulate {HERE}:ends_its_process --seeds 3 --params 'name=\"a b\"'\n" in out


def test_a_replay_can_print_every_event_and_nothing_else(run: Run, tmp_path: Path) -> None:
    run("simulate", f"{HERE}:changeable", "--seeds", "4", *QUICK)
    code, out, err = run("replay", "--import", str(kept(tmp_path)[0]), "--trace")
    assert code == 1
    header, *events = [json.loads(line) for line in out.splitlines()]
    assert header == {"trace_schema": SCHEMA_VERSION}
    assert [event["n"] for event in events] == list(range(len(events)))
    assert "the same run" in err


def test_ashtree_story_reads_the_output_of_a_replay(run: Run, tmp_path: Path) -> None:
    run("simulate", f"{HERE}:changeable", "--seeds", "4", *QUICK)
    _, out, _ = run("replay", "--import", str(kept(tmp_path)[0]), "--trace")
    (tmp_path / "run.ndjson").write_text(out)
    code, told, err = run("story", "run.ndjson")
    assert code == 0, err
    assert "incident" in told


def test_a_replay_can_write_a_page(run: Run, tmp_path: Path) -> None:
    run("simulate", f"{HERE}:changeable", "--seeds", "4", *QUICK)
    code, _, err = run("replay", "--import", str(kept(tmp_path)[0]), "--html", "gone/page.html")
    assert code == 2
    assert "the folder gone does not exist" in err
    code, _, _ = run("replay", "--import", str(kept(tmp_path)[0]), "--html", "page.html")
    assert code == 1
    assert "<canvas" in (tmp_path / "page.html").read_text("utf-8")


def test_a_replay_can_open_the_debugger_at_the_line_of_the_program(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("simulate", f"{HERE}:rarely_fails", "--seeds", "1-40", *QUICK)
    (file,) = [path for path in kept(tmp_path) if "check" in path.name]
    monkeypatch.setattr(sys, "stdin", io.StringIO("p chance < 0.1\nquit\n"))
    code, out, _ = run("replay", "--import", str(file), "--pdb")
    assert code == 1
    assert "(Pdb) True" in out


def test_a_replay_of_a_fixed_failure_passes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("simulate", f"{HERE}:changeable", "--seeds", "4", *QUICK)
    monkeypatch.setattr(Answers, "problem", None)
    (file,) = kept(tmp_path)
    code, out, _ = run("replay", "--import", str(file))
    assert code == 0
    assert "it passes" in out
    file.write_text(
        file.read_text().replace('"seed": 4', '"seed": 5').replace('digest": "', 'digest": "0')
    )
    code, out, _ = run("replay", "--import", str(file))
    assert code == 0
    assert "this is not the saved run" in out


def test_a_comparison_is_printed_and_written_as_a_picture_and_as_json(
    run: Run, tmp_path: Path
) -> None:
    code, out, _ = run(
        *("compare", f"{HERE}:rarely_fails", "--seeds", "1-10", "--jobs", "0"),
        *(
            "--policy",
            "strict: most=0.2",
            "--policy",
            "most=2",
            "--svg",
            "a.svg",
            "--json",
            "a.json",
        ),
    )
    assert code == 0
    assert "strict" in out
    assert "most=2" in out
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "a.json").read_text())["policies"] == ["strict", "most=2"]


def test_an_undeclared_parameter_is_a_warning(run: Run) -> None:
    theatre = ["simulate", "examples.scenarios.theatre:evening", "--seeds", "1", *QUICK]
    code, _, err = run(*theatre, "--params", "ofice=hasty")
    assert code == 0
    assert "does not declare the parameter 'ofice'; it declares office, visitors, bookings\n" in err
    assert "declares no" not in run(*theatre, "--params", "office=careful")[2]


def test_a_comparison_names_the_policy_of_failed_runs_and_the_command_to_repeat_one(
    run: Run,
) -> None:
    shop = ["compare", "examples.scenarios.shop:opening_day", "--seeds", "1-2", "--jobs", "0"]
    _, out, _ = run(*shop, "--policy", "a: strategy=none", "--policy", "b: pause=0.2")
    assert "a: 2 of 2 runs failed; repeat the first with: ashtree simulate" in out
    assert """--seeds 1 --params 'strategy="none"'""" in out
    assert "b: " not in out


def test_a_replay_reports_a_breakpoint_beyond_the_last_event(run: Run, tmp_path: Path) -> None:
    run("simulate", f"{HERE}:rarely_fails", "--seeds", "1-40", *QUICK)
    code, out, _ = run("replay", "--import", str(kept(tmp_path)[0]), "--at", "99999")
    assert code == 1
    assert "the run has no event 99999; its last event is" in out


def test_an_unwritable_corpus_is_refused_in_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    code, _, err = run("simulate", f"{HERE}:rarely_fails", "--seeds", "1-40", *QUICK)
    assert code == 1
    assert "cannot be written: Permission denied; name another folder for the corpus\n" in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["compare", f"{HERE}:changeable", "--policy", "a: b=1"], "two or more times"),
        (["compare", f"{HERE}:changeable", "--policy", "a: b", "--policy", "c=1"], "NAME=VALUE"),
        (
            ["compare", f"{HERE}:changeable", *("--policy", "a: b=1") * 2, "--policy", "c=1"],
            "same name",
        ),
        (["simulate", f"{HERE}:changeable", "--jobs", "3000"], "--jobs"),
        (["simulate", HERE], "not of the form"),
        (["simulate", f"{HERE}:nothing"], "write one of: rarely_fails, changeable"),
        (["simulate", f"{HERE}:trio"], "not a scenario"),
        (
            ["simulate", "examples.scenarios.theatre:visit"],
            "argument, the world; write one of: evening",
        ),
        (["simulate", "tests/a.py:x"], "is the name of a file; write tests.a:x"),
        (["simulate", "tests.simulation.gone:x"], "no module"),
        (["simulate", f"{HERE}:changeable", "--seeds", "5-1"], "write 1-5"),
        (["simulate", f"{HERE}:changeable", "--seeds", "all"], "'all' is not a seed"),
        (["simulate", f"{HERE}:changeable", "--seeds", "1-99999999999"], "sweep them in parts"),
        (["simulate", f"{HERE}:changeable", "--params", "5"], "NAME=VALUE"),
        (["simulate", f"{HERE}:changeable", "--jobs", "-1"], "--jobs"),
        (["simulate", f"{HERE}:changeable", "--real-seconds", "0"], "--real-seconds"),
        (["simulate", f"{HERE}:changeable", "--check", "2"], "--check"),
        (["simulate", f"{HERE}:changeable", "--corpus", "a-file"], "a-file"),
        (["simulate", f"{HERE}:changeable", "--corpus", "a-file/in/it"], "a-file is a file"),
        (["simulate", f"{HERE}:changeable", "--json", "no/such/folder.json"], "no/such"),
        (["replay", "gone.json"], "gone.json"),
        (["replay", "gone.json"], "name a run file"),
        (["replay", "a-file"], "a-file is not a run file"),
        (["replay", "a-list"], "a-list is not a run file: it has no format"),
        (["replay", "a-file", "--at", "-1"], "--at"),
        (["chaos", f"{HERE}:changeable", "--faults", "gone.json"], "name a file with a plan"),
        (["chaos", f"{HERE}:changeable", "--faults", "a-list"], "a-list is not a plan: Expected"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(
    run: Run, tmp_path: Path, arguments: list[str], part: str
) -> None:
    (tmp_path / "a-file").write_text("no run file")
    (tmp_path / "a-list").write_text("{}")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert part in err
    assert err.count("\n") == 1


def test_a_replay_imports_what_a_file_names_only_if_the_user_agrees(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("import sys; sys.modules['was_imported'] = sys")
    run("simulate", f"{HERE}:changeable", "--seeds", "4", *QUICK)
    content = json.loads(kept(tmp_path)[0].read_text())
    (tmp_path / "a.json").write_text(json.dumps({**content, "scenario": "evil:day"}))
    code, _, err = run("replay", "a.json")
    assert code == 2
    assert "a.json names the scenario evil:day" in err
    assert "--import" in err

    def answer(text: str) -> None:
        typed = io.StringIO(f"{text}\n")
        typed.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", typed)

    answer("n")
    code, _, err = run("replay", "a.json")
    assert code == 2
    assert "evil was not imported" in err
    assert "was_imported" not in sys.modules
    answer("y")
    try:
        run("replay", "a.json")
        assert "was_imported" in sys.modules
    finally:
        sys.modules.pop("was_imported", None)
        sys.modules.pop("evil", None)


def test_the_sentence_about_a_failure_and_its_story_come_from_the_same_run(run: Run) -> None:
    code, out, _ = run("simulate", f"{HERE}:counts_visitors", "--seeds", "1", *QUICK)
    assert code == 1
    assert "invariant 'check' does not hold at 2 s: ends at 2" in out
    assert "the check failed: ends at 2" in out
    assert "ends at 4" not in out


def test_a_parameter_out_of_its_bounds_is_refused_in_one_sentence(run: Run) -> None:
    target = f"{HERE}:counts_visitors"
    for command in (
        ("simulate", target, "--params", "visitors=1"),
        ("compare", target, "--policy", "few: visitors=1", "--policy", "many: visitors=9"),
    ):
        code, _, err = run(*command)
        assert code == 2
        words = " ".join(err.split())
        assert "params['visitors']=1; write a number from 2 to 9" in words.replace(" │ │ ", " ")


def test_a_report_shows_the_first_difference_from_a_run_that_passes(run: Run) -> None:
    code, out, _ = run("simulate", f"{HERE}:rarely_fails", "--seeds", "1-40", *QUICK)
    assert code == 1
    assert "the nearest run that passes has " in out
    assert "the runs agree for " in out
