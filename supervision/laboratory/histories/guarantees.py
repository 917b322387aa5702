"""Checks that need no search: exactly once, the guarantees of a session, at most one owner.

*pure*. Each check reads the history once. It needs operations whose arguments or results identify the effect: a unique
id for each write, a version for each state, a fence for each owner.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from actors.text import brief
from supervision.laboratory.histories.check import Verdict
from supervision.laboratory.histories.operations import Fate, Operation, about, by_key, checked

__all__ = ["check_exactly_once", "check_one_owner", "check_session"]


def check_exactly_once(
    history: Iterable[Operation],
    effects: Iterable[Hashable],
    *,
    effect: Callable[[Operation], Hashable] = lambda operation: operation.arguments[0],
) -> Verdict:
    """Check that the effect of each answered operation is there once, and that no other effect is there.

        check_exactly_once(appends, [event["id"] for event in stored_events]).require()

    The effect of an operation without an answer may be there once, or be missing.

    Args:
        history: the operations that cause an effect each.
        effects: the effects that the system shows at the end.
        effect: a function that returns the id of an operation's effect; by default the first argument.

    Returns:
        The verdict. `ok` is never None.
    """
    operations = checked(history)
    with about("check_exactly_once needs effects that are hashable, such as texts"):
        found = Tally(effects)
    known = {}
    for each in operations:
        with about(f"check_exactly_once takes the id of its effect from `{each}`; pass effect="):
            known[effect(each)] = each

    def broken(problem: str, *window: Operation) -> Verdict:
        return _verdict("exactly once", operations, problem, window)

    for identity, times in found.items():
        if identity not in known:
            return broken(f"not exactly once: no operation has caused the effect {brief(identity)}")
        if times > 1:
            return broken(
                f"not exactly once: the effect {brief(identity)} is there {times} times",
                known[identity],
            )
    for identity, each in known.items():
        if each.fate is Fate.DONE and identity not in found:
            return broken(
                f"not exactly once: the effect {brief(identity)} is lost, although its client got an answer",
                each,
            )
    return _verdict("exactly once", operations)


def check_session(
    history: Iterable[Operation],
    *,
    writes: Iterable[str] = ("write",),
    reads: Iterable[str] = ("read",),
) -> Verdict:
    """Check that each client reads its own writes, and never an older version than before.

    The result of a write is the version that it has made, and the result of a read is the version that it has seen, or
    None before the first. Versions of one key are comparable and grow.

    Args:
        history: the operations.
        writes: the names of the operations that write.
        reads: the names of the operations that read.

    Returns:
        The verdict. `ok` is never None.
    """
    operations = checked(history)
    writes, reads = frozenset(writes), frozenset(reads)
    latest: dict[tuple[Hashable, Hashable], Operation] = {}
    for each in operations:
        if each.fate is not Fate.DONE or each.name not in writes | reads:
            continue
        place = (each.client, each.key)
        before = latest.get(place)
        with about(f"check_session compares versions; a write returns the one it made: `{each}`"):
            is_older = before is not None and (each.result is None or each.result < before.result)
        if before is not None and is_older:
            what = "its own write" if before.name in writes else "what it had read before"
            return _verdict(
                "consistent within each session",
                operations,
                f"not consistent within each session: {each.client} saw version {brief(each.result)} after {what}, "
                f"which was version {brief(before.result)}",
                (before, each),
            )
        if each.result is not None:
            latest[place] = each
    return _verdict("consistent within each session", operations)


def check_one_owner(
    history: Iterable[Operation],
    *,
    owns: str = "own",
    appends: str = "append",
    fence: Callable[[Operation], Any] = lambda operation: operation.arguments[0],
) -> Verdict:
    """Check that the owners of a key never overlap, that their fences grow, and that only the last owner writes.

    An operation `own(fence)` lasts from the first to the last moment at which a client acts as the owner. An operation
    `append(fence)` is a write that the storage has accepted.

    Args:
        history: the operations.
        owns: the name of the operation of an owner.
        appends: the name of the operation of a write.
        fence: a function that returns the fence of an operation; by default the first argument.

    Returns:
        The verdict. `ok` is never None.
    """
    operations = checked(history)

    def broken(problem: str, *window: Operation) -> Verdict:
        return _verdict("at most one owner", operations, problem, window)

    for key, part in by_key(operations).items():
        last: Operation | None = None
        with about(f"check_one_owner compares the fences of {brief(key)}; pass fence="):
            for each in part:
                if each.name == owns:
                    if last is not None and last.end > each.start:
                        return broken(f"two owners of {brief(key)} at once", last, each)
                    if last is not None and not fence(last) < fence(each):
                        return broken(
                            f"the fence of {brief(key)} did not grow: {fence(last)!r}, then {fence(each)!r}",
                            last,
                            each,
                        )
                    last = each
                elif (
                    each.name == appends
                    and each.fate is Fate.DONE
                    and last is not None
                    and last.start < each.start
                    and fence(each) != fence(last)
                ):
                    return broken(
                        f"an append to {brief(key)} with the fence {fence(each)!r} was accepted, although the owner "
                        f"has {fence(last)!r}",
                        last,
                        each,
                    )
    return _verdict("at most one owner", operations)


def _verdict(
    name: str, operations: list[Operation], problem: str = "", window: Iterable[Operation] = ()
) -> Verdict:
    return Verdict(
        property=name,
        ok=not problem,
        problem=problem,
        operations=len(operations),
        window=tuple(window),
    )
