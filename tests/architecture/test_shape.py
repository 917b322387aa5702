"""Dangerous code has a comment that justifies it."""

import pytest

from tests.architecture.shape import missing_reasons
from tests.architecture.sources import PACKAGES, report, source, sources_under


def test_every_shield_and_every_broad_except_gives_its_reason() -> None:
    report(missing_reasons(sources_under(*PACKAGES, "examples")))


# The checks themselves, on samples that break each rule.


SHIELD = "with trio.CancelScope(shield=True):"

UNEXPLAINED = {
    "bare except": "try: x\nexcept: y",
    "broad except": "try: x\nexcept Exception:\n    y",
    "broad except in a tuple": "try: x\nexcept (KeyError, BaseException) as e:\n    y\n    z  # late",
    "another error instead": "try: x\nexcept Exception:\n    y\n    raise KeyError",
    "shield": f"# far above\n\n{SHIELD}\n    x\n    # late",
    "shield after another item": f"with a as b, {SHIELD[5:]}\n    x",
    "shield that is set": "scope.shield = True",
    "shield in a call": "x = trio.move_on_after(\n    5,\n    shield=True,\n)",
}


@pytest.mark.parametrize("text", UNEXPLAINED.values(), ids=list(UNEXPLAINED))
def test_what_has_no_reason_is_found(text: str) -> None:
    (problem,) = missing_reasons([source("actors/a.py", text)])
    assert problem.startswith("actors/a.py:")


EXPLAINED = {
    "on the line": "try: x\nexcept Exception:  # why\n    y",
    "on the first line of the block": "try: x\nexcept Exception:\n    y  # why",
    "at the top of the block": "try: x\nexcept Exception:\n    # why\n    # and why not\n    y",
    "on the line above": f"# why\n{SHIELD}\n    x",
    "inside a call": "x = trio.move_on_after(\n    5,\n    shield=True,  # why\n)",
    "a narrow except": "try: x\nexcept (KeyError, ValueError):\n    y",
    "a broad except that cleans up": "try: x\nexcept BaseException:\n    y\n    raise",
    "no shield": "with trio.CancelScope(shield=False) as scope:\n    scope.shield = False",
}


@pytest.mark.parametrize("text", EXPLAINED.values(), ids=list(EXPLAINED))
def test_what_has_a_reason_or_needs_none_is_not(text: str) -> None:
    assert missing_reasons([source("actors/a.py", text)]) == []
