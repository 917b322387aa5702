"""The fate of all operations of a run, from the notes of the processes and the fenced histories. *pure*."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from attrs import Factory, define, frozen

from tests.benchmarks.soak.verdict import Check

__all__ = ["Account", "Fault", "Operation", "account", "checks", "percentile"]


# Seconds in which a process that was stopped finishes what it had begun.
_WAKING = 5.0


@define
class Fault:
    """A fault that has happened. All times are those of CLOCK_MONOTONIC.

    Attributes:
        kind: its name.
        began: the time before it.
        pids: the processes that it killed or stopped.
        ended: the time after which the servers were whole again.
        is_kill: True if its processes have died, so that other nodes take over their keys.
    """

    kind: str
    began: float
    pids: tuple[int, ...] = ()
    ended: float = math.inf
    is_kill: bool = False


@define
class Operation:
    """An operation of one caller: calls of one key until an answer.

    Attributes:
        key: the key.
        pid: the process of the caller.
        began: the time of the first call.
        answered: the time of the answer; None without one.
        last: the time of its last note.
        calls: the number of its calls.
        count: the answer.
    """

    key: str
    pid: int
    began: float
    answered: float | None = None
    last: float = 0.0
    calls: int = 0
    count: int = 0


@frozen
class Start:
    """A start of an entity."""

    at: float
    pid: int
    fence: int


@define
class Account:
    """The fate of all operations.

    Attributes:
        operations: the operations, by their ids.
        failures: the number of failed calls, by the error and its `may_have_run`.
        texts: one text of each of them.
        begun: the number of times that entities have begun each call, by the id of the call.
        denied: the ids of failed calls that cannot have run, as their errors say.
        problems: broken promises, by their names.
        takeovers: for each kind of fault, the seconds between the first wish for a key of the killed processes and the
            moment at which another process owned it; then the seconds between the wish and its answer, which contain
            the time of the storage.
    """

    operations: dict[str, Operation] = Factory(dict)
    failures: Counter[tuple[str, bool]] = Factory(Counter)
    texts: dict[tuple[str, bool], str] = Factory(dict)
    begun: Counter[str] = Factory(Counter)
    denied: set[str] = Factory(set)
    problems: dict[str, list[str]] = Factory(lambda: defaultdict(list))
    takeovers: dict[str, list[tuple[float, float]]] = Factory(lambda: defaultdict(list))
    owned: dict[str, list[float]] = Factory(lambda: defaultdict(list))
    starts: dict[str, list[Start]] = Factory(lambda: defaultdict(list))
    handovers: int = 0

    @property
    def answered(self) -> list[Operation]:
        """The operations with an answer."""
        return [each for each in self.operations.values() if each.answered is not None]


def account(  # noqa: C901 - one case for each kind of note
    notes: Iterable[tuple[int, Mapping[str, Any]]],
    histories: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]],
    faults: Sequence[Fault],
) -> Account:
    """Return the account of a run.

    Args:
        notes: the notes with their process ids, in any order.
        histories: the events of each key, oldest first.
        faults: the faults.
    """
    found = Account()
    handled: dict[str, list[tuple[float, float, int, int]]] = defaultdict(list)
    open_since: dict[tuple[int, str], float] = {}
    for pid, note in sorted(notes, key=lambda each: each[1]["at"]):
        at = note["at"]
        match note["event"]:
            case "called":
                operation = found.operations.setdefault(
                    note["operation"], Operation(note["key"], pid, at)
                )
                operation.calls += 1
                operation.last = at
            case "failed":
                found.operations[note["operation"]].last = at
                which = note["error"], note["may_have_run"]
                found.failures[which] += 1
                found.texts.setdefault(which, note["text"])
                if not note["may_have_run"]:
                    found.denied.add(note["attempt"])
            case "answered":
                operation = found.operations[note["operation"]]
                operation.answered = operation.last = at
                operation.count = note["count"]
            case "owned":
                found.owned[note["key"]].append(at)
            case "started":
                found.starts[note["key"]].append(Start(at, pid, note["fence"]))
                if note["state"] is not None:
                    found.handovers += 1
                    if note["state"] != note["count"]:
                        found.problems["handed-over states are those of the history"].append(
                            f"{note['key']}: {note['state']} instead of {note['count']}"
                        )
            case "began":
                found.begun[note["attempt"]] += 1
                open_since[pid, note["attempt"]] = at
            case "ended":
                since = open_since.pop((pid, note["attempt"]), at)
                handled[note["key"]].append((since, at, pid, note["fence"]))
    _check_handlers(found, handled, faults)
    for key, events in histories.items():
        _check_history(found, key, events, faults)
    _check_answers(found, histories)
    _measure_takeovers(found, faults)
    return found


def _check_handlers(
    found: Account,
    handled: Mapping[str, list[tuple[float, float, int, int]]],
    faults: Sequence[Fault],
) -> None:
    for attempt, times in found.begun.items():
        if times > 1:
            found.problems["each call runs at most once"].append(attempt)
    found.problems["calls that cannot have run have not run"] += sorted(
        found.denied & found.begun.keys()
    )
    for key, intervals in handled.items():
        intervals.sort()
        for (_, end, pid, fence), (begin, _, other, later) in pairwise(intervals):
            # A handler that was stopped may end after the next owner has begun. Its append is refused.
            if begin < end and not any(
                {pid, other} & set(each.pids) and each.began <= end for each in faults
            ):
                found.problems["handlers of a key never overlap"].append(
                    f"{key}: {pid} with fence {fence} and {other} with fence {later}"
                )


def _check_history(
    found: Account,
    key: str,
    events: Sequence[tuple[str, Mapping[str, Any]]],
    faults: Sequence[Fault],
) -> None:
    fence = count = 0
    seen: set[str] = set()
    for event, payload in events:
        if event == "claimed":
            if payload["fence"] <= fence:
                found.problems["claimed fences grow"].append(
                    f"{key}: {payload['fence']} after {fence}"
                )
            fence = payload["fence"]
            continue
        if payload["fence"] != fence:
            found.problems["each append has the fence that was claimed last"].append(
                f"{key}: {payload['fence']} after the claim of {fence}"
            )
        count += 1
        if payload["count"] != count or payload["operation"] in seen:
            found.problems["each owner knows all earlier appends"].append(
                f"{key}: {payload['operation']} is number {payload['count']}, and not {count}"
            )
        seen.add(payload["operation"])
    # A process that was stopped in `init` may note its start after the start of the next owner. It handles no message.
    known = [
        each.fence
        for each in found.starts.get(key, [])
        if not any(
            each.pid in fault.pids and fault.began <= each.at <= fault.ended + _WAKING
            for fault in faults
        )
    ]
    if known != sorted(set(known)):
        found.problems["fences of starts grow"].append(f"{key}: {known}")


def _check_answers(
    found: Account, histories: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]
) -> None:
    kept = {
        payload["operation"]: payload["count"]
        for events in histories.values()
        for event, payload in events
        if event == "added"
    }
    for name, operation in found.operations.items():
        if operation.answered is not None and kept.get(name) != operation.count:
            found.problems["no acknowledged operation is lost"].append(
                f"{name} of {operation.key}: answered {operation.count}, kept {kept.get(name)}"
            )


def _measure_takeovers(found: Account, faults: Sequence[Fault]) -> None:
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in found.operations.values():
        by_key[operation.key].append(operation)
    stopped = [each for each in faults if each.pids and not each.is_kill]
    for fault in faults:
        if not fault.is_kill:
            continue
        for key, starts in found.starts.items():
            before = [each for each in starts if each.at < fault.began]
            after = [each for each in starts if each.at >= fault.began]
            if not before or before[-1].pid not in fault.pids or not after:
                continue
            wishes = [
                (max(each.began, fault.began), each.answered)
                for each in by_key[key]
                if each.pid not in fault.pids
                and each.answered is not None
                and each.answered >= after[0].at
            ]
            if wishes:
                wish = min(wish for wish, _ in wishes)
                owned = min(at for at in found.owned[key] if at >= fault.began)
                if any(each.began <= owned and wish <= each.ended for each in stopped):
                    # The new owner, or its caller, may stand still.
                    continue
                answer = min(answer for _, answer in wishes)
                found.takeovers[fault.kind].append((max(0.0, owned - wish), answer - wish))


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that is not exceeded by this share of the values; NaN without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


PROMISES = (
    "each call runs at most once",
    "calls that cannot have run have not run",
    "handlers of a key never overlap",
    "claimed fences grow",
    "fences of starts grow",
    "each append has the fence that was claimed last",
    "each owner knows all earlier appends",
    "no acknowledged operation is lost",
    "handed-over states are those of the history",
)


def checks(
    found: Account, faults: Sequence[Fault], *, most_takeover: float, share: float
) -> list[Check]:
    """Return the verdict.

    Args:
        found: the account.
        faults: the faults of the run.
        most_takeover: the seconds within which a wanted key of a killed process has a new owner.
        share: the share of the keys for which this must hold.
    """
    result = []
    for promise in PROMISES:
        problems = found.problems.get(promise, [])
        example = f"; {problems[0]}" if problems else ""
        result.append(Check(promise, f"{len(problems)}{example}", not problems))
    killed = {pid: each.began for each in faults if each.is_kill for pid in each.pids}
    open_ones = [
        name
        for name, each in found.operations.items()
        if each.answered is None and each.pid not in killed
    ]
    result.append(
        Check(
            "each operation is answered, unless its caller was killed",
            f"{len(found.answered):,} of {len(found.operations):,} answered, {len(open_ones)} open"
            + (f"; {open_ones[0]}" if open_ones else ""),
            bool(found.answered) and not open_ones,
        )
    )
    for kind, both in found.takeovers.items():
        owned, answered = ([each[at] for each in both] for at in (0, 1))
        result.append(
            Check(
                f"{kind}: {share:.0%} of the wanted keys have a new owner within {most_takeover:g} s",
                f"{len(both)} keys; owner: {_spread(owned, share)}; answer: {_spread(answered, share)}",
                percentile(owned, share) <= most_takeover,
            )
        )
    return result


def _spread(seconds: Sequence[float], share: float) -> str:
    return (
        f"median {percentile(seconds, 0.5):.3f} s, {share:.0%} {percentile(seconds, share):.3f} s, "
        f"longest {max(seconds):.3f} s"
    )
