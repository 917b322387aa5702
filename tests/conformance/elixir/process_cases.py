"""The cases of Elixir's process suite, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {
    "process_test": 13,
    "process_test alias/0, alias/1, and unalias/1": 2,
    "process_test get_label/1": 2,
    "process_test set_label/1": 1,
}


def _in(module: str, name: str) -> Covered:
    folder, slash, stem = module.rpartition("/")
    return Covered(f"../../actors/{folder}{slash}test_{stem}.py::test_{name}")


def _rule(name: str) -> Covered:
    return Covered(f"../otp/test_{name}")


_INFO = _in("kernel/runtime", "a_runtime_lists_and_describes_its_processes")
_INLINED = NotPortable("there is no compiler that could inline a function")
_SLEEP = NotPortable("sleeping is Trio's own: a process calls trio.sleep")
_LABEL = _in("kernel/process", "a_process_is_described_by_its_name_else_its_label")

CASES: Cases = {
    "process_test": {
        "dictionary": _in("send_every", "a_process_dictionary_is_not_inherited"),
        "group_leader/2 and group_leader/0": NotPortable(
            "there are no group leaders: output goes where Python's goes"
        ),
        "monitor/1 and monitor/2 are inlined": _INLINED,
        "monitor/2 with monitor options": NotPortable(
            "a monitor has no options; a reply that comes late finds nobody without one"
        ),
        "sleep/1": _SLEEP,
        "sleep/1 with 2^32": _SLEEP,
        "info/2": _INFO,
        "info/2 with registered name": _INFO,
        "send_after/3 sends messages once expired": _in(
            "timers", "send_after_delivers_the_message_after_the_delay"
        ),
        "send_after/4 with absolute time sends message once expired": NotPortable(
            "a timer takes seconds from now; subtract trio.current_time() from a moment"
        ),
        "send_after/3 returns a timer reference that can be read or cancelled": _in(
            "send_every", "read_timer_returns_the_time_left_and_none_after_the_last_message"
        ),
        "exit(pid, :normal) does not cause the target process to exit": _rule(
            "signals.py::test_02_a_normal_signal_of_another_process_does_nothing"
        ),
        "exit(self(), :normal) causes the calling process to exit": _rule(
            "signals.py::test_03_a_normal_signal_to_oneself_ends_the_process_or_is_a_message_if_it_traps"
        ),
    },
    "process_test alias/0, alias/1, and unalias/1": {
        "simple alias + unalias flow": _in(
            "aliases", "an_alias_leads_to_its_process_until_it_is_revoked"
        ),
        "with :reply option when aliasing": _in("aliases", "a_once_alias_accepts_only_one_message"),
    },
    "process_test get_label/1": {
        "returns nil when not set": NotPortable(
            "every process has a label: the one of its function, until it sets another"
        ),
        "gets a process label, compatible with `:proc_lib.set_label/1`": _LABEL,
    },
    "process_test set_label/1": {
        "sets a process label, compatible with `:proc_lib.get_label/1`": _LABEL,
    },
}
