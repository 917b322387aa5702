"""Messages of errors: what happened, with the values, and what to write instead."""

import pytest

from actors import KILLED, SHUTDOWN, Crash, InvalidOption, NameInUse, Shutdown, StartError
from supervision import (
    ApplicationFailed,
    ApplicationKilled,
    ApplicationStartFailed,
    ChildStartFailed,
    FailedToStartChild,
    InvalidChildSpec,
    SupervisionError,
    describe_reason,
)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (SHUTDOWN, "SHUTDOWN"),
        (KILLED, "KILLED"),
        ("port 80 is taken", "port 80 is taken"),
        (5, "5"),
        (Shutdown("left"), "shutdown, 'left'"),
        (Crash(ValueError("no such room")), "ValueError: no such room"),
        (Crash(ValueError()), "ValueError"),
        (NameInUse("db", "<pid 7>"), "the name 'db' is in use by '<pid 7>'"),  # type: ignore[arg-type] # as good
        (OSError("no route"), "OSError: no route"),
        (
            Shutdown(FailedToStartChild("web", Crash(OSError("taken")))),
            "its child 'web' did not start: OSError: taken",
        ),
    ],
)
def test_describe_reason_puts_a_reason_in_words(reason: object, words: str) -> None:
    assert describe_reason(reason) == words


def test_a_failed_application_start_names_the_innermost_child_and_the_way_to_it() -> None:
    inner = Shutdown(FailedToStartChild("listener", "port 80 is taken"))
    error = ApplicationStartFailed(Shutdown(FailedToStartChild("web", inner)))
    assert str(error) == (
        "the application did not start: child 'listener' of 'web' failed: port 80 is taken"
    )
    assert str(ApplicationStartFailed("no")) == "the application did not start: no"


def test_the_message_of_a_failed_start_contains_its_exception() -> None:
    assert str(ChildStartFailed("a", StartError("no"))) == (
        "child 'a' did not start: StartError: the process did not start: 'no'"
    )


def test_application_killed_names_its_signal() -> None:
    assert "second signal, SIGTERM" in str(ApplicationKilled(15))


def test_errors_about_invalid_values_are_value_errors() -> None:
    assert issubclass(InvalidChildSpec, ValueError)
    assert issubclass(InvalidOption, ValueError)
    assert issubclass(InvalidChildSpec, InvalidChildSpec)
    assert issubclass(ApplicationFailed, SupervisionError)


def test_the_message_of_a_failed_boot_names_the_child() -> None:
    inner = Shutdown(FailedToStartChild("listener", Crash(OSError("port 80 is taken"))))
    assert str(StartError(Shutdown(FailedToStartChild("web", inner)))) == (
        "the process did not start: Shutdown(its child 'web' did not start: its child 'listener' did not start: "
        "OSError: port 80 is taken)"
    )
