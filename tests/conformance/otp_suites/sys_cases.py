"""The cases of OTP's sys_SUITE, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered

COUNTS = {"sys_SUITE": 7}


def _in(name: str) -> Covered:
    return Covered(f"../../actors/test_sys.py::test_{name}")


CASES: Cases = {
    "sys_SUITE": {
        "log": _in("a_log_keeps_the_last_ten_events_unless_told_otherwise"),
        "log_to_file": Covered("test_sys_suite.py::test_a_trace_can_go_into_a_file"),
        "stats": _in("statistics_count_messages_in_and_answers_out"),
        "trace": _in("a_trace_shows_each_event_as_a_line"),
        "suspend": _in("a_suspended_server_answers_sys_alone_and_catches_up_after_resume"),
        "install": _in("a_hook_threads_its_state_until_it_is_done_or_raises"),
        "special_process": Covered(
            "test_sys_suite.py::test_whatever_speaks_the_protocol_of_servers_answers_sys"
        ),
    }
}
