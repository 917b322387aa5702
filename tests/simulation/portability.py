"""Check that the runs of a seed are the same on every supported Python and Trio. `make test-portability`.

    python -m tests.simulation.portability --seeds 20 python3.11 python3.13

The command creates an environment for each Python with the oldest and the newest Trio that `pyproject.toml` admits. It
runs the contract test of Trio's private names there, and the seeds of several scenarios. Then it compares the runs. The
events must be the same. Steps may differ between versions of Trio, and the command reports such differences.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec

from tests.simulation.digests import SCENARIOS, Digest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-portability"
CONTRACTS = ("test_trio_names.py", "test_burial.py", "test_nodes.py", "test_clock_and_schedule.py")


def oldest_trio() -> str:
    """Return the lowest supported version, with its last patch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for dependency in project["dependencies"]:
        found = re.fullmatch(r"trio>=([\d.]+).*", dependency)
        if found:
            return f"trio~={found[1]}.0"
    raise SystemExit("pyproject.toml names no oldest version of trio")


def environment(python: str, trio: str) -> Path:
    """Return the Python of an environment with that Trio, and create it if necessary."""
    folder = FOLDER / f"{Path(python).name}-{re.sub('[^0-9a-z.]+', '-', trio)}"
    inside = folder / "bin" / "python"
    if not inside.exists():
        print(f"making {folder.relative_to(ROOT)} ...", flush=True)
        run([python, "-m", "venv", "--clear", str(folder)])
    install = [str(inside), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    run([*install, "--upgrade", "--editable", ".[dev]", trio])
    return inside


def run(command: list[str]) -> str:
    """Return the output of a command. Its failure ends the comparison."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )  # from the command line
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed\n{done.stdout}{done.stderr}")
    return done.stdout


def versions(python: Path) -> str:
    """Return the name of the environment in the table."""
    code = "import platform, trio; print('Python', platform.python_version(), 'trio', trio.__version__)"
    return run([str(python), "-c", code]).strip()


def results(python: Path, scenario: str, seeds: int) -> list[Digest]:
    """Run the seeds of a scenario under one Python."""
    out = run([str(python), "-m", "tests.simulation.digests", scenario, "0", str(seeds)])
    return [msgspec.json.decode(line, type=Digest) for line in out.splitlines()]


def compare(name: str, here: list[Digest], there: list[Digest]) -> bool:
    """Print the differences between two lists of runs. Return True if their events are the same."""
    events = [
        one.seed for one, other in zip(here, there, strict=True) if one.digest != other.digest
    ]
    steps = [
        one.seed
        for one, other in zip(here, there, strict=True)
        if one.steps_digest != other.steps_digest
    ]
    said = f"events differ for seeds {events}" if events else "events the same"
    said += f", steps differ for seeds {steps}" if steps else ", steps the same"
    print(f"  {name}: {said}", flush=True)
    return not events


def main() -> None:
    """Compare all runs with those of the first Python and the oldest Trio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="+", help="as they are called in a shell")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    trios = (oldest_trio(), "trio")
    pythons = [environment(python, trio) for python in options.pythons for trio in trios]
    for python in pythons:
        tests = [f"tests/simulation/{name}" for name in CONTRACTS]
        said = run([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests])
        print(f"{versions(python)}: {said.splitlines()[-1]}", flush=True)
    same = True
    for scenario in SCENARIOS:
        first, *others = [
            (versions(each), results(each, scenario, options.seeds)) for each in pythons
        ]
        total = sum(digest.steps for digest in first[1])
        print(f"{scenario}: {options.seeds} seeds, {total} steps under {first[0]}", flush=True)
        for name, found in others:
            same &= compare(name, first[1], found)
    sys.exit(not same)


if __name__ == "__main__":
    main()
