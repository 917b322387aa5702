"""Compare policies: run the same seeds with the same faults under each policy, and pair the results.

    comparison = compare(
        {"3 restarts": {"max_restarts": 3}, "10 restarts": {"max_restarts": 10}},
        a_bad_day,
        seeds=range(1, 101),
    )
    print(comparison)
    Path("restarts.svg").write_text(comparison.to_svg())

Results usually differ more between two seeds than between two policies. So each seed runs under every policy, with the
faults of the first policy's run. The comparison uses the differences within each seed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import msgspec
from attrs import field, frozen

from supervision.laboratory.chaos.faults.plan import FaultPlan
from supervision.laboratory.simulation.comparing.statistics import Paired, paired
from supervision.laboratory.simulation.comparing.svg import Panel, draw
from supervision.laboratory.simulation.errors import SimulationError
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome, identify
from supervision.laboratory.simulation.scenario import Scenario, scenario_name
from supervision.laboratory.simulation.search.sweep import knobs_of
from supervision.laboratory.simulation.search.workers import Lost, cores, in_workers
from supervision.laboratory.simulation.simulate import simulate
from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import measure

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Comparison", "Policy", "compare", "measures_of"]

# A plan without an applied fault is not a failure of the policy.
_NO_FAILURE = (None, "InertPlan")
_RENEW = 100  # seeds after which a worker is replaced


@frozen(kw_only=True)
class Policy:
    """One of the policies to compare.

        Policy(params={"max_restarts": 3}, knobs=Knobs(latency=(0.1, 0.2)))

    Args:
        params: parameters of the scenario. They override the parameters of the comparison.
        knobs: the settings of the world; None takes the settings of the comparison.
    """

    params: Mapping[str, Any] = field(factory=dict)
    knobs: Knobs | None = None


def compare(
    policies: Mapping[str, Policy | Mapping[str, Any]],
    scenario: Scenario,
    *,
    seeds: Sequence[int],
    params: Mapping[str, Any] | None = None,
    knobs: Knobs | None = None,
    swarm: bool = True,
    jobs: int | None = None,
    real_seconds: float = 120.0,
) -> Comparison:
    """Run a scenario with each seed under each policy.

        compare({"one_for_one": {"strategy": "one_for_one"}, "rest_for_one": {...}}, shop, seeds=range(1, 101))

    Args:
        policies: the policies by name, each a `Policy` or its params. The comparison compares each other policy with
            the first.
        scenario: the scenario, which reads its policy from `world.params`. For each seed, the run under the first
            policy draws the faults.
        seeds: whole numbers. Use at least some dozens.
        params: parameters of the scenario, for every policy.
        knobs: the settings of the worlds; None takes the scenario's own.
        swarm: draw the knobs anew for each seed. All policies get the same knobs in any case.
        jobs: the number of processes; None takes one per core, and 0 runs everything in this process.
        real_seconds: the real seconds that a seed may take under all policies together.

    Returns:
        The figures of `measures_of` for each run.

    Raises:
        ValueError: there are fewer than two policies, or no seeds.
        SimulationError: a run ended its process, or exceeded `real_seconds`.
    """
    if len(policies) < 2:
        raise ValueError(
            f"policies has {len(policies)} entries; write two or more policies with their names"
        )
    if not len(seeds):
        raise ValueError("seeds is empty; write a range, such as range(1, 101)")
    plan = _Plan(
        scenario=scenario,
        policies={
            name: each if isinstance(each, Policy) else Policy(params=each)
            for name, each in policies.items()
        },
        params=dict(params or {}),
        knobs=knobs,
        swarm=swarm,
    )
    answers = in_workers(
        plan.run,
        seeds,
        dict[str, Figures],
        jobs=cores() if jobs is None else jobs,
        real_seconds=real_seconds,
        renew=_RENEW,
    )
    runs = []
    for seed, answer in zip(seeds, answers, strict=True):
        if isinstance(answer, Lost):
            raise SimulationError(f"seed {seed} cannot be compared: {answer.why}")
        runs.append(answer)
    return Comparison(
        scenario=scenario_name(scenario),
        policies=tuple(policies),
        seeds=tuple(seeds),
        runs=tuple(runs),
    )


def measures_of(outcome: Outcome) -> dict[str, float]:
    """Return the figures of one run.

    - `failed`: 1 if the run failed, 0 if it passed;
    - `restarts`, `gave up`: the number of restarts, and of supervisors that gave up;
    - `seconds to recover`: the median time from the end of a process by a fault or a crash until its replacement;
      missing if no process was replaced;
    - `not back`: the number of ended processes without a replacement;
    - `blast radius`: the number of processes that ended because of a fault of another process;
    - `messages lost`: see `docs/reference/chaos.md`;
    - each figure that the scenario recorded with `world.measure`.
    """
    figures = measure(read_history(outcome.trace))
    found: dict[str, float] = {
        "failed": float(identify(outcome.error) not in _NO_FAILURE),
        "restarts": float(figures.processes.restarted),
        "gave up": float(figures.processes.gave_up),
        "not back": float(figures.recovery.not_back),
        "blast radius": float(sum(len(fault.took_along) for fault in figures.faults)),
        "messages lost": float(figures.messages.lost),
    }
    if figures.recovery.median is not None:
        found["seconds to recover"] = figures.recovery.median
    own: dict[str, list[float]] = {}
    for line in outcome.trace:
        # Look at the bytes first: most lines of a trace are other events, and decoding is slow.
        if b'"kind":"measure"' in line:
            event = msgspec.json.decode(line)
            own.setdefault(event["name"], []).append(event["value"])
    return {**found, **{name: fmean(values) for name, values in own.items()}}


Figures = dict[str, float]


@frozen(kw_only=True)
class _Plan:
    scenario: Scenario
    policies: dict[str, Policy]
    params: dict[str, Any]
    knobs: Knobs | None
    swarm: bool

    def run(self, seed: int) -> dict[str, Figures]:
        """Run one seed under each policy."""
        found: dict[str, Figures] = {}
        faults: FaultPlan = None
        for name, policy in self.policies.items():
            outcome = simulate(
                self.scenario,
                seed,
                knobs=knobs_of(self.scenario, seed, policy.knobs or self.knobs, swarm=self.swarm),
                params={**self.params, **policy.params},
                faults=faults,
            )
            # The other policies get the plan of the first, because they could draw different plans.
            faults = outcome.faults
            found[name] = measures_of(outcome)
        return found


@frozen(kw_only=True)
class Comparison:
    """The figures of all policies for each seed.

    Attributes:
        scenario: the name of the scenario.
        policies: the names of the policies. Differences are relative to the first policy.
        seeds: the seeds.
        runs: for each seed, the figures of each policy.
    """

    scenario: str
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[dict[str, Figures], ...] = field(repr=False)

    @property
    def measures(self) -> list[str]:
        """The names of the figures that at least one run has."""
        return list(
            dict.fromkeys(name for run in self.runs for each in run.values() for name in each)
        )

    def values(self, measure: str, policy: str) -> list[float]:
        """Return the values of a figure under a policy, from all runs that have the figure.

        Args:
            measure: the name of the measure.
            policy: the name of the policy.
        """
        return [run[policy][measure] for run in self.runs if measure in run[policy]]

    def difference(self, measure: str, policy: str) -> Paired | None:
        """Compare a figure under a policy and under the first policy, seed by seed; None if no seed has both values.

        Args:
            measure: the name of the measure.
            policy: the name of the policy, which is compared with the first one.

        Returns:
            The difference with its interval, over the seeds that have both values.
        """
        pairs = [
            (run[self.policies[0]][measure], run[policy][measure])
            for run in self.runs
            if measure in run[policy] and measure in run[self.policies[0]]
        ]
        return paired([one for one, _ in pairs], [other for _, other in pairs])

    def table(self) -> Table:
        """Return a table for Rich: the means under each policy, and the paired differences with their intervals.

        Pass it to the `print` function of Rich.
        """
        # Imported here, because most programs that import simulations print no table.
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        # As Text, because Rich takes brackets in a plain string for markup.
        first, *others = self.policies
        table = Table(title=Text(f"{self.scenario}, {len(self.seeds)} seeds", style="italic"))
        table.add_column("mean of", no_wrap=True)
        table.add_column(Text(first), justify="right")
        for policy in others:
            table.add_column(Text(policy), justify="right")
            table.add_column("difference, 95 %", justify="right")
            table.add_column("median", justify="right")
            table.add_column("less/same/more", justify="right")
        for name in self.measures:
            row: list[Text | str] = [Text(name), _mean(self.values(name, first))]
            for policy in others:
                row += [_mean(self.values(name, policy)), *self._cells(name, policy)]
            table.add_row(*row)
        return table

    def _cells(self, measure: str, policy: str) -> list[str]:
        found = self.difference(measure, policy)
        if found is None:
            return ["", "", ""]
        mark = "*" if found.differs else ""
        interval = f"{_signed(found.mean)} [{_signed(found.low)}, {_signed(found.high)}]{mark}"
        return [interval, _signed(found.median), f"{found.less}/{found.same}/{found.more}"]

    def __str__(self) -> str:
        from supervision.applications.command_line.console import plain_console  # noqa: PLC0415 # see above

        text = io.StringIO()
        console = plain_console(file=text)
        # The text is wide enough for every row, because only the caller knows the width of its window.
        console.width = 100 * len(self.policies)
        console.print(self.table())
        return text.getvalue().rstrip()

    def as_data(self) -> dict[str, Any]:
        """Return everything as data for JSON: the summary of each figure, and the runs."""
        return {
            "scenario": self.scenario,
            "policies": list(self.policies),
            "seeds": list(self.seeds),
            "measures": {name: self._summary(name) for name in self.measures},
            "runs": list(self.runs),
        }

    def _summary(self, measure: str) -> dict[str, Any]:
        summary: dict[str, Any] = {}
        for policy in self.policies:
            values = self.values(measure, policy)
            found = self.difference(measure, policy) if policy != self.policies[0] else None
            summary[policy] = {
                "mean": fmean(values) if values else None,
                "median": median(values) if values else None,
                "difference": found,
            }
        return summary

    def to_svg(self) -> str:
        """Return a picture with a row of dots for each policy, and the differences with their intervals."""
        panels = [
            Panel(
                name=name,
                rows=[(policy, self.values(name, policy)) for policy in self.policies],
                differences=[
                    (policy, found)
                    for policy in self.policies[1:]
                    if (found := self.difference(name, policy)) is not None
                ],
            )
            for name in self.measures
        ]
        return draw(f"{self.scenario}, {len(self.seeds)} seeds", panels)


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.3g}" if values else ""


def _signed(value: float) -> str:
    return f"{value:+.3g}" if value else "0"
