"""Forked workers: the order of answers, and workers that die."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from supervision.laboratory.simulation.search.workers import Lost, cores, in_workers
from tests.patience import wait_until


def run(
    work: Callable[[int], bytes],
    count: int,
    *,
    jobs: int = 2,
    real_seconds: float = 20.0,
    renew: int = 100,
) -> list[bytes | Lost]:
    return list(
        in_workers(work, range(count), bytes, jobs=jobs, real_seconds=real_seconds, renew=renew)
    )


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_answers_come_in_the_order_of_the_items(tmp_path: Path) -> None:
    def work(item: int) -> bytes:
        # The first item is done only after a later one, which runs in another process.
        while item == 0 and not (tmp_path / "3").exists():
            pass
        (tmp_path / str(item)).touch()
        return str(item).encode()

    assert run(work, 6) == [b"0", b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_any_number_of_workers_answers_every_item_once(jobs: int) -> None:
    assert run(lambda item: b"x" * item * 1000, 150, jobs=jobs) == [
        b"x" * item * 1000 for item in range(150)
    ]


def test_an_endless_loop_ends_at_the_limit_of_cpu_time() -> None:
    def work(item: int) -> bytes:
        while item == 1:
            pass
        return b"done"

    answers = list(
        in_workers(work, range(3), bytes, jobs=1, real_seconds=600.0, renew=100, cpu_seconds=0.1)
    )
    assert [answers[0], answers[2]] == [b"done", b"done"]
    lost = answers[1]
    assert isinstance(lost, Lost)
    assert lost.kind == "time limit"
    assert lost.why == "it took more than 0.1 CPU seconds"
    assert " in work" in lost.said


def test_without_items_no_worker_starts() -> None:
    assert run(lambda item: b"", 0) == []


def test_a_dead_worker_loses_only_its_item() -> None:
    def work(item: int) -> bytes:
        if item == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        if item == 4:
            os._exit(9)
        if item == 5:
            raise RuntimeError("of the work itself")
        if item == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return b"done"

    answers = run(work, 8)
    assert [number for number, each in enumerate(answers) if each == b"done"] == [0, 1, 3, 7]
    segfault, code, raised, killed = (each for each in answers if isinstance(each, Lost))
    assert segfault.kind == "SIGSEGV"
    assert "Segmentation fault" in segfault.said
    assert "in work" in segfault.said
    assert "pytest" not in segfault.said
    assert (code.kind, code.why) == ("exit", "its process ended with the exit code 9")
    assert raised.said.endswith("RuntimeError: of the work itself\n")
    assert killed.kind == "SIGKILL"
    assert "memory" in killed.why


def test_an_item_beyond_the_time_limit_is_lost_with_its_stack() -> None:
    def work(item: int) -> bytes:
        while item == 1:
            pass
        return b"done"

    first, second, third = run(work, 3, real_seconds=1.0)
    assert (first, third) == (b"done", b"done")
    assert isinstance(second, Lost)
    assert second.kind == "time limit"
    assert "1 seconds of real time" in second.why
    assert "in work" in second.said


def test_workers_are_replaced_after_the_given_number_of_items() -> None:
    pids = run(lambda item: str(os.getpid()).encode(), 10, jobs=1, renew=2)
    assert len(set(pids)) == 5


def test_leaving_the_loop_ends_busy_workers(tmp_path: Path) -> None:
    def work(item: int) -> bytes:
        if item:
            (tmp_path / "pid").write_text(str(os.getpid()))
            (tmp_path / "pid").rename(tmp_path / "busy")
            while True:
                pass
        return b"first"

    # With a limit of an hour, the workers do not end because of the limit.
    answers = in_workers(work, range(2), bytes, jobs=2, real_seconds=3600.0, renew=100)
    assert next(answers) == b"first"
    wait_until((tmp_path / "busy").exists)
    pid = int((tmp_path / "busy").read_text())
    assert is_there(pid)
    answers.close()
    assert not is_there(pid)


def test_workers_do_not_share_standard_input_and_output(capfd: pytest.CaptureFixture[str]) -> None:
    def work(item: int) -> bytes:
        print("printed")
        os.write(1, b"written")
        sys.stderr.write("complained")
        return sys.stdin.read().encode()

    assert run(work, 2) == [b"", b""]
    assert capfd.readouterr() == ("", "")


def test_a_machine_has_at_least_one_core() -> None:
    assert cores() >= 1
