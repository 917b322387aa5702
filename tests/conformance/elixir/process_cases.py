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


_INFO = _in("kernel/runtime", "a_runtime_shows_who_is_there_and_what_they_do")
_INLINED = NotPortable("there is no compiler that could inline a function")
_SLEEP = NotPortable("sleeping is Trio's own: a process calls trio.sleep")
_LABEL = _in("kernel/process", "a_label_says_what_a_process_is_and_a_name_says_more")

CASES: Cases = {
    "process_test": {
        "dictionary": _in(
            "send_every", "a_process_dictionary_belongs_to_one_process_and_nobody_inherits_it"
        ),
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
            "timers", "the_message_comes_when_it_should"
        ),
        "send_after/4 with absolute time sends message once expired": NotPortable(
            "a timer takes seconds from now; subtract trio.current_time() from a moment"
        ),
        "send_after/3 returns a timer reference that can be read or cancelled": _in(
            "send_every", "a_timer_tells_what_it_has_left_and_nothing_once_it_has_fired"
        ),
        "exit(pid, :normal) does not cause the target process to exit": _rule(
            "signals.py::test_02_the_signal_normal_of_another_process_does_nothing"
        ),
        "exit(self(), :normal) causes the calling process to exit": _rule(
            "signals.py::test_03_the_signal_normal_to_oneself_ends_or_is_a_message_to_who_traps"
        ),
    },
    "process_test alias/0, alias/1, and unalias/1": {
        "simple alias + unalias flow": _in(
            "aliases", "an_alias_leads_to_its_process_until_it_is_taken_back"
        ),
        "with :reply option when aliasing": _in(
            "aliases", "an_alias_for_one_message_lets_only_the_first_in"
        ),
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
