"""Chaos on the live chat: its report, and the clients' own counts."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest

from channels.cli import command as cli
from channels.laboratory.live_network import LiveNetwork
from examples.scenarios.chat_client import Tally
from examples.scenarios.live_chat import faults_for_a_chat, live_chat
from supervision.laboratory.chaos.faults.kinds import Fault, Kill, plan_to_json
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.live.experiment import Phases
from supervision.laboratory.chaos.live.outcome import LiveOutcome
from supervision.laboratory.chaos.live.run import run_live
from supervision.laboratory.chaos.live.service import ServiceLimits
from supervision.recording.reader.figures import percentile
from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import PathMeasure, measure
from supervision.recording.trace import read_lines
from supervision.simulation import simulate
from tests.integration.servers import ROOT
from tests.patience import PATIENCE, wait_until

CHANNELS = "/top/endpoint/UserSocket channels/*/RoomChannel"
CONNECTIONS = "/top/endpoint/connections/Connection"
PROGRAM = [sys.executable, "-c", "from channels.cli.command import main; main()"]

ANY_SERVICE = ServiceLimits(
    max_late_share=1.0, max_wait_share=1.0, max_load=math.inf, min_in_time=0.0
)
"""Limits that every run meets. These tests run on busy machines, so they must not depend on speed."""

Command = Callable[..., tuple[int, str, str]]


def place(outcome: LiveOutcome, path: str) -> PathMeasure:
    return next(each for each in outcome.measures.paths if each.path == path)


def test_the_report_agrees_with_the_counts_of_the_clients(tmp_path: Path) -> None:
    outcome = run_live(
        live_chat,
        seed=7,
        seconds=5.0,
        faults=partial(faults_for_a_chat, seconds=5.0),
        params={"clients": 10},
        network=LiveNetwork(),
        phases=Phases(before=0.5, after=0.5),
        limits=ANY_SERVICE,
    )
    outcome.check()
    tally = outcome.result
    assert isinstance(tally, Tally)
    measures = outcome.measures

    # Ended processes. A client learns of the end of a channel from a phx_error, a failed join, or the end of its
    # connection. On a busy machine a connection can end before the answer to a join. Then the client never knows of the
    # channel.
    channels, connections = place(outcome, CHANNELS), place(outcome, CONNECTIONS)
    seen_to_end = tally.errors + tally.failed_joins + tally.left_with_connection
    assert seen_to_end <= channels.ended <= seen_to_end + tally.unanswered_joins
    # On a busy machine the listener can end before it has started processes for all connected clients.
    assert connections.ended <= tally.disconnects <= connections.ended + tally.failed_handshakes
    assert channels.ended_by_faults == channels.ended
    assert connections.ended_by_faults == connections.ended
    assert measures.processes.troubled == 0

    # Recovery.
    assert tally.joins == 10 + len(tally.out)
    assert measures.recovery.not_back == 0
    seen = percentile(tally.out, 0.5)
    assert seen is not None
    assert channels.median_back is not None
    assert abs(seen - channels.median_back) < 0.25

    # Lost messages. Besides messages between processes, clients lose the data of a broken connection. A message that
    # was lost before its connection broke counts for the connection.
    lost = tally.lost_to_errors + tally.lost_to_disconnects
    assert tally.said == tally.answered + tally.refused + lost
    assert tally.lost_to_errors <= measures.messages.by_kind["new_msg"] <= lost

    # Faults of the plan, including the large ones. On a busy machine, one or two may find no target.
    assert measures.applied >= 10
    assert measures.blast_largest >= 15
    outcome.write_page(tmp_path / "report.html")
    assert "what the clients counted" in (tmp_path / "report.html").read_text("utf-8")


def test_without_broken_connections_every_lost_message_is_accounted_for() -> None:
    def faults(random: Random) -> list[Fault]:
        plan = faults_for_a_chat(random, seconds=4.0)
        return [each for each in plan if type(each).__name__ in {"Raise", "DropMessage"}]

    outcome = run_live(
        live_chat,
        seed=3,
        seconds=4.0,
        faults=faults,
        params={"clients": 5},
        network=LiveNetwork(),
        phases=Phases(before=0.5, after=0.5),
        limits=ANY_SERVICE,
    )
    outcome.check()
    tally = outcome.result
    assert isinstance(tally, Tally)
    mail = outcome.measures.messages
    assert tally.disconnects == 0
    assert mail.by_kind == {"new_msg": mail.lost}
    assert (mail.in_hand > 0, mail.dropped > 0) == (True, True)
    assert tally.said - tally.answered - tally.refused == mail.lost


def test_the_same_scenario_can_be_simulated() -> None:
    outcome = simulate(
        live_chat,
        7,
        faults=partial(faults_for_a_chat, seconds=20.0),
        params={"clients": 5, "seconds": 20, "port": 4000},
    )
    outcome.check()
    assert sum(report.status == "applied" for report in outcome.fault_reports) > 15
    measures = measure(read_history(outcome.trace))
    events = map(json.loads, outcome.trace)
    counted = next(e for e in events if e.get("text") == "what the clients counted")
    tally = {name: int(counted[name]) for name in ("errors", "failed_joins", "disconnects")}
    places = {each.path: each.ended_by_faults for each in measures.paths}
    assert places[CONNECTIONS] == tally["disconnects"]
    assert places[CHANNELS] == sum(tally.values())


ANY = (
    *("--max-late-share", "1", "--max-wait-share", "1"),
    *("--max-load", "inf", "--min-in-time", "0"),
)


def options(folder: Path, *more: str) -> list[str]:
    target = "examples.scenarios.live_chat:live_chat"
    files = ["--html", str(folder / "report.html"), "--json", str(folder / "report.json")]
    return ["chaos", target, "--params", "clients=4", "--steady-for", "0.3", *ANY, *files, *more]


@pytest.fixture
def ashtree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process. Return its exit code, its standard output and its standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ashtree", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, out, err

    return call


def test_the_command_writes_its_reports(ashtree: Command, tmp_path: Path) -> None:
    poller = "/top/endpoint/poller"
    plan = plan_to_json([Kill(target=poller, when=At(time)) for time in (0.2, 5.5)])
    (tmp_path / "plan.json").write_bytes(plan)
    more = ("--for", "1", "--seed", "3", "--exact-times", "--faults", str(tmp_path / "plan.json"))
    journal = ("--journal", str(tmp_path / "journal.json"))
    trace = ("--trace", str(tmp_path / "trace.ndjson"))
    code, out, err = ashtree(*options(tmp_path, *more, *journal, *trace))
    assert code == 0, err
    assert "1 applied" in out
    assert "the steady state came back" in out
    assert (
        "1 of 2 planned faults are due after 1 s, so the run did not apply them; write --for 6"
        in out
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["seed"], report["verdict"]) == (3, "held")
    assert [fault["target"] for fault in report["plan"]] == [poller] * 2
    assert (tmp_path / "report.html").stat().st_size > 10_000
    written = json.loads((tmp_path / "journal.json").read_text())
    assert (written["status"], written["deviated"], len(written["run"])) == ("completed", False, 1)
    first, *_ = read_lines(tmp_path / "trace.ndjson")
    assert json.loads(first)["n"] == 0


def test_a_run_that_fails_has_another_exit_code(ashtree: Command, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(plan_to_json([Kill(target="/nowhere", when=At(0.2))]))
    more = ("--for", "0.5", "--faults", str(tmp_path / "plan.json"))
    code, out, _ = ashtree(*options(tmp_path, *more))
    assert code == 1
    assert "none of the 1 planned faults was applied" in out
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "failed"


def wait_for(process: subprocess.Popen[bytes], words: str, log: Path, *, times: int = 1) -> None:
    """Wait until a program has logged a text this many times. The program must not end before that."""

    def is_logged() -> bool:
        return log.read_text().count(words) >= times

    wait_until(lambda: is_logged() or process.poll() is not None, log.read_text)
    assert is_logged(), log.read_text()


def test_ctrl_c_ends_a_run_in_order_and_it_has_a_report(tmp_path: Path) -> None:
    log = tmp_path / "log"
    plan = plan_to_json([Kill(target=CHANNELS, when=At(0.0))])
    (tmp_path / "plan.json").write_bytes(plan)
    more = ("--for", "3600", "--faults", str(tmp_path / "plan.json"), "--log-level", "info")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*PROGRAM, *options(tmp_path, *more)], cwd=ROOT, stdout=file, stderr=file
        )
    try:
        # Wait until a client joins again, which shows that the fault was applied. A run without any fault fails.
        wait_for(process, "JOINED room:lobby", log, times=4 + 1)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE)
    assert "The run ended early." in log.read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["interrupted"] is True
    assert (tmp_path / "report.html").is_file()


def test_a_second_ctrl_c_ends_a_run_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*PROGRAM, *options(tmp_path, "--for", "3600")], cwd=ROOT, stdout=file, stderr=file
        )
    try:
        wait_for(process, "Applying faults", log)
        # Send two different signals, because the system may merge two equal signals. Each signal counts as Ctrl-C.
        for signum in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid, signum)
        assert process.wait(PATIENCE) == 130, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE)
    assert "Traceback" not in log.read_text()


def test_a_scenario_that_cannot_run_exits_with_one_sentence(
    ashtree: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one_name.py").write_text(
        "from supervision.simulation import scenario\n"
        "@scenario(invariants=['no_orphans'])\n"
        "async def a_day(world): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, _, err = ashtree("chaos", "one_name:a_day")
    assert code == 2
    assert "one_name:a_day: there is no invariant 'no_orphans'; write one of: no_orphan" in err
    assert err.count("\n") == 1


def test_a_scenario_that_raises_has_an_exit_code_of_its_own_also_on_an_overloaded_machine(
    ashtree: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "it_raises.py").write_text(
        "async def a_day(world):\n    raise ValueError('no more tickets')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    # With this limit, any machine is overloaded.
    code, out, _ = ashtree("chaos", "it_raises:a_day", "--max-load", "1e-9", "--steady-for", "0.1")
    assert code == 4
    assert "the scenario raised ValueError: no more tickets" in out


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--faults", "gone/plan.json"), "gone/plan.json"),
        (("--html", "gone/a.html"), "does not exist; create it first"),
        (("--for", "0"), "more than 0"),
        (("--log-level", "loud"), "write debug, info"),
    ],
)
def test_wrong_input_exits_with_one_sentence(
    ashtree: Command, wrong: tuple[str, ...], words: str
) -> None:
    code, _, err = ashtree("chaos", "examples.scenarios.live_chat:live_chat", *wrong)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
