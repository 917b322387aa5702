"""The report of a run on a terminal."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from supervision.laboratory.chaos.live.outcome import LiveOutcome
from supervision.recording.reader.measures import FaultMeasure, Measures, RecoveryMeasures
from supervision.recording.reader.service import LoopMeasures, MachineMeasures, RequestMeasures

__all__ = ["print_report"]

_NO_CHECKS = "the scenario has no steady state to check; add checks with world.steady"
_UNASKED = f"no problem was found, but {_NO_CHECKS}"
_OVERLOADED = (
    "overloaded, so this run says nothing about recovery; free the machine, or run fewer clients"
)
_BAR = 24
_ROWS = 40
_NAMED = 5


def print_report(outcome: LiveOutcome, console: Console) -> None:
    """Print the faults, the figures and the problems of a run."""
    measures = outcome.measures
    console.print(_faults(measures))
    if measures.not_applicable:
        console.print(Text(_not_reached(measures), style="dim"), soft_wrap=True)
    console.print(_figures(measures))
    console.print(_histogram(measures.recovery))
    for problem in outcome.problems:
        console.print(Text(f"✗ {problem}", style="bold red"), soft_wrap=True)
    unasked = (
        f"{', '.join(measures.unrecovered)}; {_NO_CHECKS}" if measures.unrecovered else _UNASKED
    )
    held = "the steady state came back" if measures.steady else unasked
    other = {"overloaded": _OVERLOADED, "error": "the scenario raised an exception"}
    what = other.get(outcome.verdict, "failed" if outcome.failed else held)
    early = " The run ended early." if outcome.interrupted else ""
    console.print(
        Text(
            f"{outcome.scenario}, seed {outcome.seed}: {what}.{early}",
            style="bold red" if outcome.failed else "bold green",
        ),
        soft_wrap=True,
    )


def _faults(measures: Measures) -> Table:
    table = Table(title="Faults", title_justify="left")
    table.add_column("at", justify="right", no_wrap=True)
    table.add_column("fault", no_wrap=True)
    table.add_column("target")
    table.add_column("blast radius", justify="right")
    table.add_column("all back after", justify="right")
    happened = [fault for fault in measures.faults if fault.status != "not_applicable"]
    # If there are too many rows, show the faults with the largest blast radius.
    shown = sorted(happened, key=lambda fault: -len(fault.took_along))[:_ROWS]
    for fault in sorted(shown, key=lambda fault: fault.seconds):
        table.add_row(*_row(fault), style="" if fault.status == "applied" else "dim")
    if len(happened) > len(shown):
        table.add_row("", f"... {len(happened) - len(shown)} more", "", "", "")
    return table


def _not_reached(measures: Measures) -> str:
    """Return one line about all faults that were not applied, with the number for each reason."""
    reasons = Counter(
        fault.why or "no reason" for fault in measures.faults if fault.status == "not_applicable"
    )
    why = "; ".join(f"{number} because {reason}" for reason, number in reasons.most_common(_NAMED))
    more = f"; and {len(reasons) - _NAMED} more reasons" if len(reasons) > _NAMED else ""
    return (
        f"{measures.not_applicable} of {len(measures.faults)} faults were not applied: {why}{more}"
    )


def _row(fault: FaultMeasure) -> tuple[Text, ...]:
    # The end of a path matters most, so the table shows only this part. The other reports have the whole path.
    where = "/".join((fault.path or "").split("/")[-2:])
    if fault.status != "applied":
        where += f" ({fault.status}: {fault.why})"
    back = "" if not fault.ended else _length(fault.all_back)
    along = str(len(fault.took_along)) if fault.took_along else ""
    # The words are a `Text`, because Rich treats brackets in a plain string as markup.
    words = (f"{fault.seconds:.2f} s", fault.type.replace("_", " "), where, along, back)
    return tuple(map(Text, words))


def _figures(measures: Measures) -> Table:
    processes, mail, recovery = measures.processes, measures.messages, measures.recovery
    table = Table(title="Figures", title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    rows = {
        "faults": f"{measures.applied} applied, {measures.masked} masked, {measures.not_applicable} not applicable",
        "processes ended": f"{processes.ended_by_faults} by faults, {processes.troubled} on their own; "
        f"blast radius up to {measures.blast_largest}",
        "restarts": f"{processes.restarted} by supervisors; {processes.gave_up} gave up, "
        f"{processes.failed_starts} starts failed",
        "time to recover": f"median {_length(recovery.median)}, p99 {_length(recovery.p99)}, "
        f"longest {_length(recovery.longest)}; {recovery.not_back} not replaced, {recovery.missing} not back",
        "messages lost": f"{mail.lost} of {mail.sent + mail.omitted}: {mail.in_hand} being handled, "
        f"{mail.in_mailboxes} in mailboxes, {mail.to_the_dead} to the dead, {mail.dropped} dropped",
        "answers lost": str(mail.answers_lost),
    }
    if measures.takeovers:
        times = [each for each in measures.takeovers if each is not None]
        rows["entities taken over"] = (
            f"{len(times)} of {len(measures.takeovers)}; longest {_length(max(times, default=None))}"
        )
    for steady in measures.steady:
        during = steady.availability_during
        # `availability_during` is None if no faults began.
        held = (
            f"{steady.availability:.2%} of the time since it first held, and no faults began"
            if during is None
            else f"{during:.2%} during the faults"
        )
        rows[f"steady: {steady.name}"] = (
            f"{held}; {steady.outages} outages, longest {_length(steady.longest_outage)}"
        )
    for requests in measures.requests:
        rows[f"requests: {requests.name}"] = _answers(requests)
    if measures.loop is not None:
        rows["event-loop lag"] = _lag(measures.loop)
    if measures.machine is not None:
        rows["machine"] = _machine(measures.machine)
    rows["invariants broken"] = str(len(measures.invariants))
    for name, words in rows.items():
        table.add_row(Text(name), Text(words))
    return table


def _answers(requests: RequestMeasures) -> str:
    clients = f"{requests.clients_in_time} of {requests.clients} clients in time"
    if requests.silent:
        clients += f", {requests.silent} without a request during the faults"
    return (
        f"{requests.share_in_time:.2%} of {requests.count} in time, {requests.late} late, "
        f"{requests.unanswered} not answered; median {_length(requests.median)}, "
        f"p99 {_length(requests.p99)}, longest {_length(requests.longest)}; {clients}"
    )


def _lag(loop: LoopMeasures) -> str:
    return (
        f"median {_length(loop.median)}, p99 {_length(loop.p99)}, longest {_length(loop.longest)}; "
        f"{loop.late_share:.1%} of the time over {_length(loop.late_after)}"
    )


def _machine(machine: MachineMeasures) -> str:
    share, load = machine.wait_share, machine.load
    waited = "unknown" if share is None else f"{share:.1%} of the time"
    return f"waited for a processor: {waited}; load average per core: {'unknown' if load is None else f'{load:.3g}'}"


def _histogram(recovery: RecoveryMeasures) -> Table:
    table = Table(title="Back after", title_justify="left", show_header=False, box=None)
    highest = max((bucket.count for bucket in recovery.histogram), default=0) or 1
    for bucket in recovery.histogram:
        if bucket.count:
            limit = "longer" if bucket.up_to is None else f"up to {_length(bucket.up_to)}"
            bar = "█" * max(1, round(_BAR * bucket.count / highest))
            table.add_row(Text(limit), Text(bar), Text(str(bucket.count)))
    return table


def _length(seconds: float | None) -> str:
    """Return a duration as short text."""
    if seconds is None:
        return "never"
    if seconds < 1.0:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s"
