"""A program under real signals: the first drains it, the second kills it, and it prints the cause of its end."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


class Program:
    """One run of `supervised_program`."""

    def __init__(self, mode: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.supervised_program", mode],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, line: str) -> None:
        """Read on until the program has printed `line`."""
        assert self.process.stdout is not None
        for said in self.process.stdout:
            if said.strip() == line:
                return
        pytest.fail(f"it never said {line!r}: {self.process.stderr and self.process.stderr.read()}")

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, list[str], str]:
        """Wait for the end. Return the exit code, the new output, and the errors."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.splitlines(), err


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    running = Program(request.param)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()


SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("program", ["quick", "busy"], indirect=True)
def test_the_first_signal_stops_the_tree_in_reverse_order_with_exit_code_0(
    program: Program, signum: signal.Signals, request: pytest.FixtureRequest
) -> None:
    program.wait_for("ready")
    program.signal(signum)
    code, said, errors = program.end()
    names = ["b", "a"] if "quick" in request.node.name else ["a"]
    assert said == [
        *(f"{what} {name}" for name in names for what in ("stopping", "stopped")),
        "end of program",
    ]
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("program", ["slow"], indirect=True)
def test_the_second_signal_kills_everything_at_once(
    program: Program, second: signal.Signals
) -> None:
    program.wait_for("ready")
    program.signal(signal.SIGTERM)
    program.wait_for("stopping b")
    program.signal(second)
    code, said, errors = program.end()
    assert code == 128 + second
    assert said == []
    assert errors.strip() == (
        f"the application was killed by a second signal, {second.name}, "
        "before it had stopped in order"
    )


@pytest.mark.parametrize("program", ["thread", "loop"], indirect=True)
def test_the_second_signal_does_not_wait_for_threads_or_a_blocked_event_loop(
    program: Program, request: pytest.FixtureRequest
) -> None:
    program.wait_for("ready")
    program.signal(signal.SIGTERM)
    program.wait_for("stopping thread" if "thread]" in request.node.name else "stopping loop")
    program.signal(signal.SIGINT)
    # The blocking part takes longer than this wait.
    code, said, errors = program.end()
    assert code == 128 + signal.SIGINT
    assert said == []
    assert "killed by a second signal, SIGINT" in errors


@pytest.mark.parametrize("program", ["deadline"], indirect=True)
def test_a_child_that_exceeds_the_deadline_is_killed(program: Program) -> None:
    program.wait_for("ready")
    program.signal(signal.SIGTERM)
    code, said, errors = program.end()
    assert said == ["stopping b", "end of program"]
    assert code == 0
    assert "did not end within 0.3 s" in errors


@pytest.mark.parametrize("program", ["booting"], indirect=True)
def test_a_signal_during_the_start_stops_the_tree_after_the_start(program: Program) -> None:
    program.wait_for("starting b")
    program.signal(signal.SIGTERM)
    program.tell("go on")
    code, said, errors = program.end()
    assert said == ["stopping b", "stopped b", "stopping a", "stopped a", "end of program"]
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("program", ["booting"], indirect=True)
def test_two_signals_during_the_start_kill_it(program: Program) -> None:
    program.wait_for("starting b")
    # Two different ones: of two that are the same the system makes one if the program is slow to take the first.
    program.signal(signal.SIGINT)
    program.signal(signal.SIGTERM)
    code, said, errors = program.end()
    assert code == 128 + signal.SIGTERM
    assert said == []
    assert "Traceback" not in errors


@pytest.mark.parametrize("program", ["broken"], indirect=True)
def test_a_failed_start_is_one_sentence_that_names_the_child_and_exit_code_1(
    program: Program,
) -> None:
    code, said, errors = program.end()
    assert code == 1
    assert said == ["starting a", "starting broken", "stopping a", "stopped a"]
    assert errors == (
        "the application did not start: child 'broken' of 'web' failed: port 80 is taken\n"
    )


@pytest.mark.parametrize("program", ["crashing"], indirect=True)
def test_a_top_supervisor_that_gives_up_ends_the_program_with_a_sentence_and_exit_code_1(
    program: Program,
) -> None:
    code, said, errors = program.end()
    assert code == 1
    assert said[-2:] == ["stopping a", "stopped a"]
    assert errors.splitlines()[-1] == (
        "the application failed: its top supervisor gave up after 3 restarts within 5 s; "
        "child 'crashes' ended again: RuntimeError: boom"
    )
    # Four crashes and three restarts were logged on the way.
    assert errors.count("restarted child 'crashes'") == 3


@pytest.mark.parametrize("program", ["terminate-only"], indirect=True)
def test_an_interrupt_that_is_not_among_the_signals_still_stops_in_order(program: Program) -> None:
    program.wait_for("ready")
    program.signal(signal.SIGINT)
    code, said, errors = program.end()
    assert said == ["stopping b", "stopped b", "stopping a", "stopped a"]
    assert code != 0
    assert "KeyboardInterrupt" in errors
