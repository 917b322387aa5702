"""The report of a live run as a journal of the Chaos Toolkit.

    journal = toolkit_journal(outcome, node=platform.node(), platform=platform.platform())
    Path("journal.json").write_bytes(msgspec.json.encode(journal))

The journal has the same fields as a journal of `chaos run`. So tools such as chaostoolkit-reporting can read it. The
experiment in the journal is valid. It uses the actions and probes of `supervision.laboratory.chaos.toolkit`.

| verdict | `status` | `deviated` |
|---|---|---|
| held | completed | false |
| failed | failed | true |
| failed before the first fault | failed | false |
| error: the scenario raised | aborted | true; false before the first fault, or in an overloaded run |
| overloaded | interrupted | false |

If Ctrl-C or `stop` ended the run early, the status is "interrupted" in place of "completed" or "failed". An overloaded
run does not show if the server recovers, so it is neither completed nor deviated. The toolkit itself uses the status
"interrupted" after a safeguard has stopped a run. Its command exits with an error for this status.

*pure*: the inputs are the outcome and the names of the machine. Source: chaostoolkit-lib 1.44, `chaoslib/run.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from supervision.laboratory.chaos.faults.kinds import Fault, describe_fault, lasting_seconds
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.laboratory.chaos.live.outcome import LiveOutcome
from supervision.recording.reader.measures import FaultMeasure

__all__ = ["toolkit_journal"]

FORMAT: Final = "1.44.0"
"""The version of chaostoolkit-lib whose journal format this module writes."""

_MODULE: Final = "supervision.laboratory.chaos.toolkit"
_KINDS: Final = frozenset(("recording", "steady", "steady_state", "heal"))

_UNDO: Final = {
    "type": "action",
    "name": "undo the faults",
    "provider": {"type": "python", "module": _MODULE, "func": "undo_faults", "arguments": {}},
}


def toolkit_journal(outcome: LiveOutcome, *, node: str, platform: str) -> dict[str, Any]:
    """Return the report of a live run as a Chaos Toolkit journal, in JSON types.

        journal = toolkit_journal(outcome, node=platform.node(), platform=platform.platform())

    Args:
        outcome: the outcome of the run.
        node: the name of the machine, as `platform.node()` returns it.
        platform: the description of the machine, as `platform.platform()` returns it.

    Returns:
        The journal, with the fields of chaostoolkit-lib 1.44.
    """
    return _Journal(outcome).content(node, platform)


class _Journal:
    """The builder of one journal. All times are seconds since the start of the run; `_at` makes timestamps of them."""

    def __init__(self, outcome: LiveOutcome) -> None:
        decode = msgspec.json.Decoder().decode
        events = [event for event in map(decode, outcome.trace) if event["kind"] in _KINDS]
        self.outcome = outcome
        self.steady = [event for event in events if event["kind"] == "steady"]
        self.judged = {e["phase"]: e for e in events if e["kind"] == "steady_state"}
        self.healed = next((event["t"] for event in events if event["kind"] == "heal"), None)
        self.began = next((e["began"] for e in events if e["kind"] == "recording"), 0.0)
        self.phases = {phase.name: phase for phase in outcome.measures.phases}
        self.checks = list(dict.fromkeys(event["name"] for event in self.steady))
        self.actions = _actions(outcome.faults)

    def content(self, node: str, platform: str) -> dict[str, Any]:
        """Return the whole journal."""
        outcome = self.outcome
        status, deviated = self._status()
        return {
            "chaoslib-version": FORMAT,
            "platform": platform,
            "node": node,
            "experiment": self._experiment(),
            "start": self._at(0.0),
            "status": status,
            "deviated": deviated,
            "steady_states": {
                "before": self._judged("before"),
                "after": self._judged("after"),
                "during": self._during(),
            },
            "run": self._run(),
            "rollbacks": [] if self.healed is None else [self._entry(_UNDO, self.healed)],
            "end": self._at(outcome.seconds),
            "duration": round(outcome.seconds, 6),
        }

    def _status(self) -> tuple[str, bool]:
        """Return `status` and `deviated`. The table in the module's docstring has all cases."""
        outcome = self.outcome
        deviated = outcome.failed and not outcome.overloaded and "during" in self.phases
        if outcome.error is not None:
            return "aborted", deviated
        if outcome.overloaded or outcome.interrupted:
            return "interrupted", deviated
        return "failed" if outcome.failed else "completed", deviated

    def _at(self, seconds: float) -> str:
        return datetime.fromtimestamp(self.began + seconds, UTC).isoformat()

    def _entry(self, activity: dict[str, Any], start: float, end: float | None = None) -> Any:
        """Return the record of one activity, without its output."""
        until = start if end is None else max(start, end)
        return {
            "activity": activity,
            "output": None,
            "start": self._at(start),
            "status": "succeeded",
            "end": self._at(until),
            "duration": round(until - start, 6),
        }

    # The experiment

    def _experiment(self) -> dict[str, Any]:
        outcome = self.outcome
        experiment: dict[str, Any] = {
            "version": "1.0.0",
            "title": f"{outcome.scenario}, seed {outcome.seed}",
            "description": f"A live run of the scenario {outcome.scenario} with `ashtree chaos`.",
            "tags": ["ashtree"],
            # Faults that wait for a callback come first, because they wait from the start of the run.
            "method": [action for _, action in sorted(self.actions, key=lambda each: each[0])],
            "rollbacks": [_UNDO],
            "extensions": [self._extension()],
        }
        if self.checks:
            experiment["steady-state-hypothesis"] = {
                "title": "The steady state of the scenario holds.",
                "probes": [_probe(name) for name in self.checks],
            }
        return experiment

    def _extension(self) -> Any:
        """Return those parts of the report for which a journal has no field."""
        outcome = self.outcome
        report = {
            "name": "ashtree",
            "verdict": outcome.verdict,
            "seed": outcome.seed,
            "params": outcome.params,
            "problems": outcome.problems,
            "sometimes": outcome.sometimes,
            "not_applicable": [
                {"fault": report.text, "why": report.why}
                for report in outcome.fault_reports
                if report.status == "not_applicable"
            ],
            "measures": outcome.measures,
        }
        return msgspec.to_builtins(report, enc_hook=str)

    # The steady state

    def _judged(self, phase: str) -> dict[str, Any] | None:
        """Return the steady state at the end of a phase; None if the phase did not end."""
        event = self.judged.get(phase)
        if event is None or not self.checks:
            return None
        begin = self.phases[phase].begin
        return self._state(event["problems"], begin, event["t"], holds=event["holds"])

    def _during(self) -> list[dict[str, Any]]:
        """Return the steady state after each changed result of a check in the phase "during"."""
        phase = self.phases.get("during")
        if phase is None:
            return []
        problems: dict[str, str] = {}
        states = []
        for event in self.steady:
            problems.pop(event["name"], None)
            if not event["holds"]:
                problems[event["name"]] = event["problem"]
            time = event["t"]
            if phase.begin <= time < phase.end:
                states.append(self._state(problems, time, time, holds=not problems))
        return states

    def _state(
        self, problems: dict[str, str], start: float, end: float, *, holds: bool
    ) -> dict[str, Any]:
        probes = []
        for name in self.checks:
            problem = problems.get(name)
            entry = self._entry(_probe(name), start, end)
            entry["output"] = True if problem is None else problem
            entry["tolerance_met"] = problem is None
            probes.append(entry)
        return {"steady_state_met": holds, "probes": probes}

    # The faults

    def _run(self) -> list[dict[str, Any]]:
        """Return one entry for each fault that was applied or masked, in the order of their times."""
        measures = {each.event: each for each in self.outcome.measures.faults}
        entries = []
        for report, (_, action) in zip(self.outcome.fault_reports, self.actions, strict=False):
            if report.seconds is not None and report.status != "not_applicable":
                measured = None if report.event is None else measures.get(report.event)
                entries.append((report.seconds, self._injected(report, action, measured)))
        return [entry for _, entry in sorted(entries, key=lambda each: each[0])]

    def _injected(
        self, report: FaultReport, action: dict[str, Any], measured: FaultMeasure | None
    ) -> dict[str, Any]:
        start = report.seconds or 0.0
        entry: dict[str, Any] = self._entry(action, start, self._over(report.fault, start))
        output: dict[str, Any] = {"status": report.status, "where": report.where}
        if measured is not None:
            for name in ("ended", "took_along", "target_back", "all_back", "not_back"):
                output[name] = getattr(measured, name)
        entry["output"] = output
        if report.status == "masked":
            entry["status"] = "failed"
            entry["exception"] = [f"masked: {report.why}"]
        return entry

    def _over(self, fault: Fault, start: float) -> float:
        """Return the time at which a fault ended. `heal` or the end of the run ends all faults."""
        latest = self.outcome.seconds if self.healed is None else self.healed
        return min(latest, start + lasting_seconds(fault))


def _probe(name: str) -> dict[str, Any]:
    provider = {
        "type": "python",
        "module": _MODULE,
        "func": "check_holds",
        "arguments": {"check": name},
    }
    return {"type": "probe", "name": name, "tolerance": True, "provider": provider}


def _actions(plan: Sequence[Fault]) -> list[tuple[float, dict[str, Any]]]:
    """Return the time of each fault and its action, in the order of the plan.

    An action of the toolkit cannot have a start time. So the action of a fault with a time has a pause before it: the
    seconds since the previous fault.
    """
    times = [fault.when.seconds if isinstance(fault.when, At) else 0.0 for fault in plan]
    actions = [_action(fault) for fault in plan]
    before = 0.0
    for time, action in sorted(zip(times, actions, strict=True), key=lambda each: each[0]):
        if time > before:
            action["pauses"] = {"before": round(time - before, 3)}
            before = time
    return list(zip(times, actions, strict=True))


def _action(fault: Fault) -> dict[str, Any]:
    content = msgspec.to_builtins(fault)
    if isinstance(fault.when, At):
        del content["when"]
    return {
        "type": "action",
        "name": describe_fault(fault),
        "provider": {
            "type": "python",
            "module": _MODULE,
            "func": "inject_fault",
            "arguments": {"fault": content},
        },
    }
