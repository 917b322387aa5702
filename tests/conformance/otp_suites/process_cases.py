"""The cases of OTP's process_SUITE, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"process_SUITE": 55}


def _here(name: str) -> Covered:
    return Covered(f"test_process_suite.py::test_{name}")


_SHOWN = Covered(
    "../../actors/kernel/test_runtime.py::test_a_runtime_lists_and_describes_its_processes"
)
_ASKED = _here("process_info_works_at_any_time")
_SUICIDE = _here("a_signal_to_oneself_ends_a_process_that_does_not_trap")
_NO_SCHEDULER = NotPortable("Trio schedules: there are no priorities, reductions or run queues")
_NO_HEAP = NotPortable("a process has no heap of its own: memory and garbage are Python's")
_ONE_THREAD = NotPortable("there is one thread, so asking about a process takes no locks")
_NO_TABLE = NotPortable("the table of processes is a dict, and listing it is one step")
_NO_SYSTEM_TASKS = NotPortable("there are no tasks that the machine runs inside a process")
_NO_SUSPENDING = NotPortable("a process is not suspended from outside; a server is, by a request")
_ONE_NODE = NotPortable("there is one node, so no message comes from another")
_NO_FLAGS = NotPortable("a process has one flag, and it is a function with one argument")

CASES: Cases = {
    "process_SUITE": {
        "spawn_with_binaries": _NO_HEAP,
        "t_exit_1": _here("a_large_exit_reason_reaches_the_links_unchanged"),
        "t_exit_2_other": _here("a_large_reason_of_a_signal_reaches_the_links_unchanged"),
        "t_exit_2_other_normal": _here("a_normal_signal_leaves_a_linked_process_alive"),
        "self_exit": _here("a_trapping_process_gets_its_own_signal_as_a_message"),
        "normal_suicide_exit": _SUICIDE,
        "abnormal_suicide_exit": _SUICIDE,
        "t_exit_2_catch": _here("a_signal_to_oneself_cannot_be_caught"),
        "exit_and_timeout": _here("a_signal_in_the_same_turn_as_the_end_of_a_wait_wins"),
        "exit_twice": _here("the_second_of_two_signals_is_ignored"),
        "trap_exit_badarg": _here(
            "an_error_of_a_bad_argument_reaches_the_links_with_its_traceback"
        ),
        "trap_exit_badarg_in_bif": _here(
            "a_process_that_is_spawned_with_wrong_arguments_crashes_like_any_other"
        ),
        "t_process_info": _ASKED,
        "process_info_other": _SHOWN,
        "process_info_other_msg": _SHOWN,
        "process_info_other_dist_msg": _ONE_NODE,
        "process_info_2_list": NotPortable("one question gives all there is to know, as a dict"),
        "process_info_lock_reschedule": _ONE_THREAD,
        "process_info_lock_reschedule2": _ONE_THREAD,
        "process_info_lock_reschedule3": _ONE_THREAD,
        "process_info_garbage_collection": _NO_HEAP,
        "process_info_smoke_all": _SHOWN,
        "process_info_status_handled_signal": _ASKED,
        "process_info_reductions": _NO_SCHEDULER,
        "process_info_messages": NotPortable(
            "how many messages wait can be asked, but not which: they are the process's own"
        ),
        "bump_reductions": _NO_SCHEDULER,
        "low_prio": _NO_SCHEDULER,
        "yield": _NO_SCHEDULER,
        "yield2": _NO_SCHEDULER,
        "otp_4725": NotPortable("a spawn has no options that could be read back"),
        "bad_register": _here("an_invalid_registration_is_refused_and_changes_nothing"),
        "garbage_collect": _NO_HEAP,
        "process_flag_badarg": _NO_FLAGS,
        "process_flag_heap_size": _NO_HEAP,
        "spawn_opt_heap_size": _NO_HEAP,
        "spawn_opt_max_heap_size": _NO_HEAP,
        "otp_6237": NotPortable("it is about a race between the threads of a machine"),
        "processes_large_tab": _NO_TABLE,
        "processes_default_tab": _NO_TABLE,
        "processes_small_tab": _NO_TABLE,
        "processes_this_tab": _NO_TABLE,
        "processes_last_call_trap": _NO_TABLE,
        "processes_apply_trap": _NO_TABLE,
        "processes_gc_trap": _NO_TABLE,
        "processes_term_proc_list": _NO_TABLE,
        "otp_7738_waiting": _NO_SUSPENDING,
        "otp_7738_suspended": _NO_SUSPENDING,
        "otp_7738_resume": _NO_SUSPENDING,
        "garb_other_running": _NO_HEAP,
        "no_priority_inversion": _NO_SCHEDULER,
        "no_priority_inversion2": _NO_SCHEDULER,
        "system_task_blast": _NO_SYSTEM_TASKS,
        "system_task_on_suspended": _NO_SYSTEM_TASKS,
        "system_task_failed_enqueue": _NO_SYSTEM_TASKS,
        "otp_16436": _NO_SYSTEM_TASKS,
    }
}
