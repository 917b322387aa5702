"""What handlers answer with."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

from channels import InvalidOption, Reply


@pytest.mark.parametrize("status", [3, None, {"n": 1}, b"ok"])
def test_a_status_that_is_no_text_is_refused_where_it_is_written(status: Any) -> None:
    with pytest.raises(InvalidOption, match=r'Reply got status=.*; write text, such as "ok"'):
        Reply({}, status)


def test_a_reply_that_is_written_as_in_phoenix_says_what_comes_first() -> None:
    backwards: Any = ("ok", {"total": 3})
    with pytest.raises(InvalidOption, match="behind the payload"):
        Reply(*backwards)


def test_any_text_is_a_status() -> None:
    class Status(StrEnum):
        WEIRD = "weird"

    assert Reply(status="weird") == Reply({}, Status.WEIRD)
