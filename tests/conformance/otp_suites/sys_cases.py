"""The cases of OTP's sys_SUITE, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered

COUNTS = {"sys_SUITE": 7}


def _in(name: str) -> Covered:
    return Covered(f"../../actors/test_sys.py::test_{name}")


CASES: Cases = {
    "sys_SUITE": {
        "log": _in("a_log_keeps_the_last_ten_events_by_default"),
        "log_to_file": Covered("test_sys_suite.py::test_a_trace_can_go_into_a_file"),
        "stats": _in("statistics_count_messages_in_and_answers_out"),
        "trace": _in("a_trace_shows_each_event_as_a_line"),
        "suspend": _in("a_suspended_server_answers_only_sys_and_catches_up_after_resume"),
        "install": _in("a_hook_gets_its_last_state_until_it_is_done_or_raises"),
        "special_process": Covered(
            "test_sys_suite.py::test_supervisors_agents_and_machines_answer_sys"
        ),
    }
}
