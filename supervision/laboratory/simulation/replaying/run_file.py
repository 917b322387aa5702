"""Run files. A run file stores a run as data, so that another process can repeat the run later, byte for byte.

    save_run(outcome, Path("failure.json"))
    replay(Path("failure.json")).check()

A run file contains the input of a run (scenario, seed, knobs, parameters, schedule), its outcome, and the versions of
the packages. It contains no code, so a replay needs the same program.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
from attrs import field, frozen

from supervision.applications.command_line.program_frames import program_traceback
from supervision.laboratory.chaos.faults.kinds import Fault
from supervision.laboratory.simulation.draws import Draw
from supervision.laboratory.simulation.errors import RunFileError
from supervision.laboratory.simulation.forks import Fork
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome, identify, problem_of
from supervision.laboratory.simulation.replaying.debugger import debugger_at
from supervision.laboratory.simulation.scheduling.deviations import Deviation
from supervision.laboratory.simulation.simulate import Scenario, simulate

__all__ = [
    "FORMAT",
    "RunFile",
    "describe_run",
    "difference",
    "encode_run",
    "find_scenario",
    "load_run",
    "replay",
    "run_again",
    "save_run",
    "write_run",
]

FORMAT = "ashtree-run/2"
# Version 1 has no draws. An older program would ignore them and repeat another run.
_FORMATS = ("ashtree-run/1", FORMAT)
_PACKAGES = ("ashtree", "trio", "msgspec", "websockets", "hypercorn", "wsproto", "trio-websocket")


@frozen(kw_only=True)
class RunFile:
    """The content of a run file.

    Attributes:
        format: the name and version of the format.
        scenario: `module:function`.
        seed, knobs, params, deviations, forks, draws: as for `simulate`.
        faults: the fault plan. In files of old versions, it may be None, which means the scenario's own plan.
        named: the deviations with the names of tasks. They replace `deviations` unless they are empty.
        failure: the kind of failure; None if the run passed.
        problem: the failure as text.
        digest, steps_digest, events, steps: as in the outcome of the saved run.
        versions: the versions of Python and of the packages that can change a run.
        source: the SHA-256 of the file of the scenario.
    """

    format: str = FORMAT
    scenario: str
    seed: int
    knobs: Knobs
    params: dict[str, Any] = field(factory=dict)
    faults: tuple[Fault, ...] | None = None
    deviations: dict[int, tuple[int, ...]] = field(factory=dict)
    forks: tuple[Fork, ...] = ()
    draws: tuple[Draw, ...] = ()
    named: tuple[Deviation, ...] = ()
    failure: str | None = None
    problem: str | None = None
    digest: str
    steps_digest: str
    events: int
    steps: int
    versions: dict[str, str] = field(factory=dict)
    source: str | None = None

    def schedule(self) -> tuple[Deviation, ...]:
        """Return the deviations from the schedule of the knobs."""
        return self.named or tuple(
            Deviation(round=number, order=order) for number, order in self.deviations.items()
        )


def describe_run(outcome: Outcome) -> RunFile:
    """Return the run file of an outcome."""
    # The seed decides a "seeded" schedule. A "canonical" one needs its deviations.
    given = outcome.knobs.policy == "canonical"
    error = outcome.error
    return RunFile(
        scenario=outcome.scenario,
        seed=outcome.seed,
        knobs=outcome.knobs,
        params=outcome.params,
        faults=outcome.faults,
        deviations=dict(outcome.deviations) if given else {},
        named=outcome.named if given else (),
        forks=outcome.forks,
        draws=outcome.draws,
        failure=identify(error),
        problem=None if error is None else problem_of(error),
        digest=outcome.digest,
        steps_digest=outcome.steps_digest,
        events=outcome.events,
        steps=outcome.steps,
        versions=_versions(),
        source=_source_of(outcome.scenario),
    )


def save_run(outcome: Outcome, path: Path) -> RunFile:
    """Write the run file of an outcome. The errors are the same as for `encode_run`.

    Args:
        outcome: the outcome of a run.
        path: the file. The run file replaces an existing file.

    Returns:
        The content of the file.
    """
    run = describe_run(outcome)
    write_run(run, path)
    return run


def write_run(run: RunFile, path: Path) -> None:
    """Write a run file. The errors are the same as for `encode_run`."""
    path.write_bytes(encode_run(run))


def encode_run(run: RunFile) -> bytes:
    """Return the bytes of a run file.

    Raises:
        RunFileError: the parameters of the scenario have types that JSON does not have.
    """
    try:
        data = msgspec.json.encode(run)
    except TypeError as error:
        raise RunFileError(
            f"the run of {run.scenario} cannot be saved: {error}; use params of types that JSON has"
        ) from error
    again = msgspec.json.decode(data)["params"]
    changed = [name for name, value in run.params.items() if again.get(name) != value]
    if changed:
        # A tuple or bytes would have another type after loading, so the replay would be another run.
        raise RunFileError(
            f"the run of {run.scenario} cannot be saved: its parameter {changed[0]!r} would be read as "
            f"{again.get(changed[0])!r}; use params of types that JSON has"
        )
    return msgspec.json.format(data) + b"\n"


def load_run(path: Path) -> RunFile:
    """Read a run file.

    Args:
        path: the file.

    Returns:
        The content of the file.

    Raises:
        RunFileError: the file is missing, is not a run file, or has a format of another version.
    """
    try:
        data = path.read_bytes()
        raw = msgspec.json.decode(data)
        found = raw.get("format")
    except OSError as error:
        raise RunFileError(
            f"{path} cannot be read: {error.strerror or error}; name a run file, such as one in .ashtree/corpus"
        ) from error
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        raise RunFileError(
            f"{path} is not a run file: {error}; name a run file, such as one in .ashtree/corpus"
        ) from error
    if found is None:
        raise RunFileError(
            f"{path} is not a run file: it has no format; name a run file, such as one in .ashtree/corpus"
        )
    if found not in _FORMATS:
        raise RunFileError(
            f"{path} has the format {found!r}{_written_by(raw)}; this version reads "
            f"{' and '.join(map(repr, _FORMATS))}"
        )
    try:
        return msgspec.json.decode(data, type=RunFile)
    except msgspec.MsgspecError as error:
        raise RunFileError(f"{path} is a broken run file: {error}") from error


def _written_by(raw: dict[str, Any]) -> str:
    versions = raw.get("versions")
    version = versions.get("ashtree") if isinstance(versions, dict) else None
    return "" if version is None else f", written by Ashtree {version}"


def find_scenario(name: str) -> Scenario:
    """Import the scenario `module:function`.

    Raises:
        RunFileError: no scenario can be imported by this name.
    """
    module, _, qualname = name.partition(":")
    if not qualname or "<" in qualname or module == "__main__":
        raise RunFileError(
            f"no other process can import {name!r}; make the scenario a function of a module"
        )
    try:
        found: Any = import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise RunFileError(
            f"the scenario {name!r} cannot be imported: {error}; run in the folder of the program, or set PYTHONPATH; "
            "if the scenario has another name now, change it in the run file too"
        ) from error
    except Exception as error:  # the module may raise anything; the message shows it
        raise RunFileError(
            f"the module {module!r} of the scenario cannot be imported:\n{program_traceback(error)}"
        ) from error
    scenario: Scenario = found
    return scenario


def run_again(
    run: RunFile,
    *,
    scenario: Scenario | None = None,
    keep_trace: bool = True,
    on_event: Callable[[int], None] | None = None,
) -> Outcome:
    """Repeat a run without comparing the outcome with the run file."""
    return simulate(
        scenario or find_scenario(run.scenario),
        run.seed,
        knobs=run.knobs,
        params=run.params,
        faults=run.faults,
        deviations=run.schedule(),
        forks=run.forks,
        draws=run.draws,
        keep_trace=keep_trace,
        label_tasks=run.knobs.policy == "canonical",
        on_event=on_event,
    )


def replay(path: Path, *, scenario: Scenario | None = None, at: int | None = None) -> Outcome:
    """Repeat a run, and check that the new run is the same, byte for byte.

        outcome = replay(Path("failure.json"))
        outcome.check()                        # raises the failure again

    Args:
        path: the run file.
        scenario: the scenario, if it is not a function of a module that can be imported.
        at: open the debugger at the event of this number, which is `n` in the trace.

    Returns:
        The outcome of the repeated run.

    Raises:
        RunFileError: the file is invalid, or the run differs. The text of the error names the changes since the run was
            saved.
    """
    run = load_run(path)
    outcome = run_again(run, scenario=scenario, on_event=None if at is None else debugger_at(at))
    changed = difference(run, outcome)
    if changed is not None:
        raise RunFileError(f"{path} does not replay: {changed}")
    return outcome


def difference(run: RunFile, outcome: Outcome) -> str | None:
    """Describe how an outcome differs from its run file, and which parts of the program have changed since then.

    Returns:
        A description, or None if the outcome is the same.
    """
    failed = identify(outcome.error)
    now = (outcome.digest, outcome.steps_digest, failed)
    if now == (run.digest, run.steps_digest, run.failure):
        return None
    what = (
        f"the saved run had {run.events} events in {run.steps} steps, and this one has "
        f"{outcome.events} in {outcome.steps}"
    )
    if failed != run.failure:
        what = f"it {_ended(run.failure)} when it was saved, and {_ended(failed)} now; {what}"
    return f"{what}; {_changed(run)}"


def _ended(failure: str | None) -> str:
    return "passed" if failure is None else f"failed with {failure}"


def _changed(run: RunFile) -> str:
    """Describe the changes since a run was saved."""
    now = _versions()
    changed = [
        f"{name} was {then} and is {now.get(name, 'missing')}"
        for name, then in run.versions.items()
        if now.get(name) != then
    ]
    file = run.scenario.partition(":")[0]
    source = _source_of(run.scenario)
    if run.source is not None and source != run.source:
        changed.append(f"the file of the scenario, {file}, has changed")
    elif not changed:
        unchanged = "the versions are the same" + (
            "" if source is None else ", and so is the file of the scenario"
        )
        changed.append(
            f"{unchanged}; so another part of the program has changed, or the seed does not decide everything"
        )
    return "; ".join(changed)


def _source_of(scenario: str) -> str | None:
    """Return the digest of the file of a scenario; None if there is no file."""
    file = getattr(sys.modules.get(scenario.partition(":")[0]), "__file__", None)
    try:
        return None if file is None else sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
