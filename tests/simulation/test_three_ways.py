"""A run does not depend on earlier runs in its process, on hashes of strings, or on memory addresses.

Each seed runs three times: in one process with others; in reversed order in another process, with other hashes and
other objects on the heap; and alone in a fresh process, with other hashes again. In a quick run, only the last seed
runs alone.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.simulation.digests import Digest

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


def run_elsewhere(
    scenario: str, seeds: range, *, hash_seed: int, backwards: bool = False, junk: int = 0
) -> list[Digest]:
    order = ["--reversed"] if backwards else []
    command = [sys.executable, "-m", "tests.simulation.digests", scenario]
    command += [str(seeds.start), str(len(seeds)), "--junk", str(junk), *order]
    path = os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": path}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )  # this very program
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [msgspec.json.decode(line, type=Digest) for line in done.stdout.splitlines()]


def one_by_one(scenario: str, seeds: range) -> list[Digest]:
    def alone(seed: int) -> Digest:
        (digest,) = run_elsewhere(
            scenario, range(seed, seed + 1), hash_seed=1000 + seed, junk=997 * seed
        )
        return digest

    # One thread for each core. A thread waits for a process.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(alone, seeds))


@pytest.mark.parametrize(
    ("scenario", "seeds"),
    [
        ("chat_and_tree", range(200 if DEEP else 2)),
        pytest.param("heartbeats", range(50), marks=pytest.mark.deep),
        pytest.param("chat", range(50), marks=pytest.mark.deep),
        pytest.param("cluster", range(20), marks=pytest.mark.deep),
        pytest.param("a_week", range(20), marks=pytest.mark.deep),
    ],
)
def test_a_seed_is_the_same_run_three_ways(scenario: str, seeds: range) -> None:
    together = run_elsewhere(scenario, seeds, hash_seed=1)
    backwards = run_elsewhere(scenario, seeds, hash_seed=4242, backwards=True, junk=50_000)
    # The first seed runs first in one of the processes above, so a quick run does not repeat it alone.
    alone = list(one_by_one(scenario, seeds if DEEP else seeds[1:]))
    assert [digest.seed for digest in together] == list(seeds)
    assert backwards[::-1] == together
    assert alone == together[-len(alone) :]
    assert len({digest.digest for digest in together}) == len(seeds)
    assert [digest.error for digest in together] == [None] * len(seeds)
