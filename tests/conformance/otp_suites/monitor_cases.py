"""The cases of OTP's monitor_SUITE, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"monitor_SUITE": 20}


def _here(name: str) -> Covered:
    return Covered(f"test_monitor_suite.py::test_{name}")


def _rule(name: str) -> Covered:
    return Covered(f"../otp/test_signals.py::test_{name}")


def _links(name: str) -> Covered:
    return Covered(f"../../actors/kernel/test_link_graph.py::test_{name}")


_ONE_NODE = NotPortable("there is one node, so nothing on another is monitored")
_TOLD_ONCE = _here("a_monitor_tells_the_end_of_a_pid_or_of_a_name_once")
_TAKEN_BACK = _here("who_takes_its_monitor_back_hears_nothing_that_is_not_there_already")

CASES: Cases = {
    "monitor_SUITE": {
        "case_1": _TOLD_ONCE,
        "case_1a": _TOLD_ONCE,
        "case_2": _TAKEN_BACK,
        "case_2a": _TAKEN_BACK,
        "mon_e_1": _here(
            "what_cannot_be_an_address_is_refused_and_what_nobody_is_called_by_is_down"
        ),
        "demon_e_1": _here("demonitor_takes_what_is_no_monitor_for_one_that_is_gone"),
        "demon_1": _TAKEN_BACK,
        "demon_2": _links("demonitor_says_whether_the_monitor_was_there"),
        "demon_3": _ONE_NODE,
        "demonitor_flush": _rule("13_demonitor_leaves_a_down_that_is_there_unless_it_flushes"),
        "local_remove_monitor": _links("demonitor_says_whether_the_monitor_was_there"),
        "remote_remove_monitor": _ONE_NODE,
        "mon_1": _rule("11_each_monitor_fires_once_for_itself"),
        "mon_2": _ONE_NODE,
        "large_exit": _here("a_large_reason_comes_as_it_is"),
        "list_cleanup": _here("monitors_end_in_any_order_and_leave_nothing"),
        "mixer": Covered(
            "../../properties/test_signals.py::test_links_monitors_exits_and_traps_follow_the_model"
        ),
        "named_down": _here("the_end_of_a_name_frees_it_before_the_watcher_hears_of_it"),
        "otp_5827": NotPortable("a monitor takes a name alone; there is no node to go with it"),
        "monitor_time_offset": NotPortable("there is one clock, and it does not jump"),
    }
}
