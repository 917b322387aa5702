"""The cases of OTP's erl_link_SUITE, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"erl_link_SUITE": 12}


def _here(name: str) -> Covered:
    return Covered(f"test_link_suite.py::test_{name}")


_ONE_NODE = NotPortable("there is one node, so no link or monitor leads to another")

CASES: Cases = {
    "erl_link_SUITE": {
        "links": _here("a_link_is_symmetric_and_ends_with_unlink_or_with_either_process"),
        "dist_links": _ONE_NODE,
        "monitor_nodes": _ONE_NODE,
        "process_monitors": _here(
            "only_its_owner_removes_a_monitor_which_fires_once_and_leaves_nothing"
        ),
        "dist_process_monitors": _ONE_NODE,
        "busy_dist_port_monitor": _ONE_NODE,
        "busy_dist_port_link": _ONE_NODE,
        "otp_5772_link": _here("no_exit_arrives_after_an_unlink"),
        "otp_5772_dist_link": _ONE_NODE,
        "otp_5772_monitor": _here("no_down_arrives_after_a_demonitor"),
        "otp_5772_dist_monitor": _ONE_NODE,
        "otp_7946": _ONE_NODE,
    }
}
