"""The cases of OTP's gen_server_SUITE, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"gen_server_SUITE": 46}


def _here(name: str) -> Covered:
    return Covered(f"test_gen_server_suite.py::test_{name}")


def _rule(name: str) -> Covered:
    return Covered(f"../otp/test_start_and_servers.py::test_{name}")


def _in(module: str, name: str) -> Covered:
    folder, slash, stem = module.rpartition("/")
    return Covered(f"../../actors/{folder}{slash}test_{stem}.py::test_{name}")


_ONE_NODE = NotPortable("there is one node, so nothing is addressed on another")
_NO_ENTER_LOOP = NotPortable("a process does not become a server later: a server is started as one")
_STOPS = _rule("43_stop_runs_terminate_even_in_a_server_that_does_not_trap")
_STOPS_BY_NAME = _here("stop_accepts_a_pid_and_every_kind_of_name")
_MESSAGES = _here("a_message_may_make_the_server_continue_wait_stop_or_fail")
_REDACTED = _in("sys", "format_status_redacts_status_log_and_crash_report")
_NO_TERMINATE = _here("a_server_without_terminate_ends_with_its_reason")
_TYPO = _here("a_missing_function_inside_a_callback_is_not_reported_as_a_missing_callback")

CASES: Cases = {
    "gen_server_SUITE": {
        "start": _here("a_server_starts_with_or_without_a_link_and_under_any_kind_of_name"),
        "stop1": _STOPS,
        "stop2": _here("the_reason_of_a_stop_reaches_linked_processes"),
        "stop3": _STOPS,
        "stop4": _STOPS_BY_NAME,
        "stop5": _ONE_NODE,
        "stop6": _ONE_NODE,
        "stop7": _STOPS_BY_NAME,
        "stop8": _ONE_NODE,
        "stop9": _ONE_NODE,
        "stop10": _ONE_NODE,
        "crash": _here("the_end_of_a_server_is_reported_as_a_crash_unless_it_is_clean"),
        "call": _here("a_call_is_answered_at_once_later_at_the_end_or_times_out"),
        "cast": _MESSAGES,
        "cast_fast": _ONE_NODE,
        "info": _MESSAGES,
        "abcast": NotPortable("one node has one server of a name; a loop over casts does the rest"),
        "multicall": NotPortable(
            "one node has one server of a name; a nursery of calls does the rest"
        ),
        "multicall_down": _ONE_NODE,
        "call_remote1": _ONE_NODE,
        "call_remote2": _ONE_NODE,
        "call_remote3": _ONE_NODE,
        "call_remote_n1": _ONE_NODE,
        "call_remote_n2": _ONE_NODE,
        "call_remote_n3": _ONE_NODE,
        "spec_init": _NO_ENTER_LOOP,
        "spec_init_local_registered_parent": _NO_ENTER_LOOP,
        "spec_init_global_registered_parent": _NO_ENTER_LOOP,
        "otp_5854": _NO_ENTER_LOOP,
        "hibernate": NotPortable("an idle server keeps no stack or heap that it could give up"),
        "otp_7669": _rule("30_a_name_is_free_when_a_failed_start_returns"),
        "error_format_status": _REDACTED,
        "terminate_crash_format": _REDACTED,
        "call_format_status": Covered(
            "../otp/test_sys.py::test_49_data_that_format_status_redacts_appears_nowhere"
        ),
        "get_state": _in("sys", "get_state_returns_the_state_itself"),
        "replace_state": _in("sys", "replace_state_returns_the_new_state"),
        "call_with_huge_message_queue": _here(
            "a_call_costs_the_same_with_any_number_of_waiting_messages"
        ),
        "undef_handle_call": _in(
            "misuse", "a_call_to_a_server_without_handle_call_names_the_method_to_add"
        ),
        "undef_handle_cast": _in(
            "misuse", "a_cast_to_a_server_without_handle_cast_names_the_method_to_add"
        ),
        "undef_handle_info": _in(
            "servers/gen_server", "an_unhandled_message_is_an_event_and_not_a_crash"
        ),
        "undef_init": _in("servers/gen_server", "a_server_without_state_or_init_works"),
        "undef_code_change": NotPortable("code is not replaced in running processes here"),
        "undef_terminate1": _NO_TERMINATE,
        "undef_terminate2": _NO_TERMINATE,
        "undef_in_terminate": _TYPO,
        "undef_in_handle_info": _TYPO,
    }
}
