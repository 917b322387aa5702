"""The cases of OTP's signal_SUITE, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"signal_SUITE": 15}


def _here(name: str) -> Covered:
    return Covered(f"test_signal_suite.py::test_{name}")


_TOO_LATE = _here("a_process_cannot_escape_an_accepted_signal")

CASES: Cases = {
    "signal_SUITE": {
        "xm_sig_order": _here("only_messages_from_before_a_signal_can_arrive"),
        "kill2killed": _here("a_kill_reaches_direct_and_further_links_as_killed"),
        "exit_before_pending_exit": _here(
            "an_exit_that_was_called_before_a_signal_came_is_the_reason"
        ),
        "pending_exit_unlink_process": _TOO_LATE,
        "pending_exit_unlink_dist_process": NotPortable(
            "there is one node, so no link leads to another"
        ),
        "pending_exit_unlink_port": NotPortable("there are no ports: files and sockets are Trio's"),
        "pending_exit_trap_exit": _TOO_LATE,
        "pending_exit_receive": _here("a_message_is_not_received_after_an_accepted_signal"),
        "pending_exit_exit": _here("an_exit_after_an_accepted_signal_does_not_change_the_reason"),
        "pending_exit_gc": NotPortable("garbage is Python's and never collected by a process"),
        "pending_exit_is_process_alive": _here(
            "a_process_with_an_accepted_signal_is_alive_until_its_end"
        ),
        "pending_exit_process_display": NotPortable(
            "there is no function that prints the stack of a process"
        ),
        "pending_exit_process_info_1": _here(
            "a_process_with_an_accepted_signal_is_alive_until_its_end"
        ),
        "pending_exit_process_info_2": _TOO_LATE,
        "pending_exit_group_leader": NotPortable(
            "there are no group leaders: output goes where Python's goes"
        ),
    }
}
