"""Moments."""

from typing import Any

import pytest

from supervision.laboratory.chaos.errors import InvalidFault
from supervision.laboratory.chaos.faults.moments import CALLBACKS, At, On, describe_moment


def test_message_stands_for_every_callback_that_handles_one() -> None:
    about = [name for name in CALLBACKS if On("message").is_about(name)]
    assert about == ["handle_call", "handle_cast", "handle_info", "message"]
    assert not On("init").is_about("handle_call")
    assert On("init").is_about("init")


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (At(0.5), "at 0.5 s"),
        (At(3), "at 3 s"),
        (On("init"), "before its first init"),
        (On("message", nth=2), "before its 2nd message"),
        (On("message", nth=11, kind="jo*"), "before its 11th message of jo*"),
        (On("run", nth=23, incarnation=4), "before its 23rd run as incarnation 4"),
        (On("receive", nth=101), "before its 101st receive"),
    ],
)
def test_a_moment_in_words(moment: At | On, words: str) -> None:
    assert describe_moment(moment) == words


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: At(-1), "seconds"),
        (lambda: At(float("nan")), "seconds"),
        (lambda: At("soon"), "seconds"),  # type: ignore[arg-type] # what is refused
        (lambda: At(True), "seconds"),
        (lambda: On("handle_everything"), "callback"),
        (lambda: On("init", nth=0), "nth"),
        (lambda: On("init", kind=""), "kind"),
        (lambda: On("init", incarnation=0), "incarnation"),
    ],
)
def test_an_invalid_moment_is_refused(make: Any, field: str) -> None:
    with pytest.raises(InvalidFault) as caught:
        make()
    assert caught.value.field == field
