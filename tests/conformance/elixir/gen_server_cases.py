"""The cases of Elixir's gen_server suite, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"gen_server_test": 13}


def _otp(name: str) -> Covered:
    return Covered(f"../otp_suites/test_gen_server_suite.py::test_{name}")


def _rule(name: str) -> Covered:
    return Covered(f"../otp/test_start_and_servers.py::test_{name}")


_STARTS = _otp("a_server_starts_with_or_without_a_link_and_under_any_kind_of_name")

CASES: Cases = {
    "gen_server_test": {
        "generates child_spec/1": Covered(
            "../../supervision/test_child_spec.py::test_a_class_becomes_a_spec_named_after_it"
        ),
        "start_link/3": _rule("31_a_start_that_takes_too_long_leaves_nothing_behind"),
        "start_link/3 with local": _rule("30_a_name_is_free_when_a_failed_start_returns"),
        "start_link/3 with via": _STARTS,
        "start_link/3 with global": NotPortable("there is one node, so no name is global"),
        "start_link/2, call/2 and cast/2": _otp(
            "a_message_may_make_the_server_continue_wait_stop_or_fail"
        ),
        "call/3 exit messages": _rule("35_a_failed_call_raises_the_reason"),
        "nil name": Covered(
            "../../actors/test_names.py::test_any_hashable_value_but_none_is_a_name"
        ),
        "start/2": _STARTS,
        "abcast/3": NotPortable(
            "one node has one server of a name; a loop over casts does the rest"
        ),
        "multi_call/4": NotPortable(
            "one node has one server of a name; a nursery of calls does the rest"
        ),
        "whereis/1": Covered("../../actors/test_names.py::test_a_name_can_move_to_another_process"),
        "stop/3": _otp("stop_accepts_a_pid_and_every_kind_of_name"),
    }
}
