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
_TOLD_ONCE = _here("a_monitor_of_a_pid_or_a_name_fires_once")
_TAKEN_BACK = _here("after_demonitor_only_an_earlier_down_is_received")

CASES: Cases = {
    "monitor_SUITE": {
        "case_1": _TOLD_ONCE,
        "case_1a": _TOLD_ONCE,
        "case_2": _TAKEN_BACK,
        "case_2a": _TAKEN_BACK,
        "mon_e_1": _here(
            "a_monitor_of_an_invalid_address_raises_and_of_an_unknown_name_sends_noproc"
        ),
        "demon_e_1": _here("demonitor_returns_false_for_any_other_reference"),
        "demon_1": _TAKEN_BACK,
        "demon_2": _links("demonitor_returns_true_for_an_active_monitor"),
        "demon_3": _ONE_NODE,
        "demonitor_flush": _rule("13_demonitor_keeps_an_earlier_down_unless_it_flushes"),
        "local_remove_monitor": _links("demonitor_returns_true_for_an_active_monitor"),
        "remote_remove_monitor": _ONE_NODE,
        "mon_1": _rule("11_each_monitor_fires_once"),
        "mon_2": _ONE_NODE,
        "large_exit": _here("a_large_reason_arrives_unchanged"),
        "list_cleanup": _here("monitors_can_be_removed_in_any_order_and_leave_nothing"),
        "mixer": Covered(
            "../../properties/test_signals.py::test_links_monitors_exits_and_traps_follow_the_model"
        ),
        "named_down": _here("a_name_is_free_before_its_monitor_fires"),
        "otp_5827": NotPortable("a monitor takes a name alone; there is no node to go with it"),
        "monitor_time_offset": NotPortable("there is one clock, and it does not jump"),
    }
}
