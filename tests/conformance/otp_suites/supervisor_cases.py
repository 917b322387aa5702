"""The cases of OTP's supervisor_SUITE, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"supervisor_SUITE": 66}


def _in(module: str, name: str) -> Covered:
    path = module if "/" in module else f"test_{module}"
    return Covered(f"../../supervision/{path}.py::test_{name}")


def _here(name: str) -> Covered:
    return Covered(f"test_supervisor_suite.py::test_{name}")


_NO_UPGRADES = NotPortable("code is not replaced in running processes here")
_IGNORED = _here("a_dynamic_supervisor_keeps_nothing_of_a_child_that_ignores_its_start")
_DYNAMIC_FAILS = _in(
    "dynamic_supervisor", "the_error_of_a_failed_start_is_raised_unchanged_and_nothing_is_kept"
)
_BOOT_FAILS = _in(
    "supervisor", "a_child_that_fails_at_boot_stops_those_before_it_and_ends_the_supervisor"
)
_PERMANENT = _in("supervisor", "a_permanent_child_is_restarted_whatever_it_ended_with")
_TRANSIENT = _in("supervisor", "a_transient_child_is_restarted_only_if_it_did_not_end_cleanly")
_TEMPORARY = _in("supervisor", "a_temporary_child_is_forgotten_whatever_it_ended_with")
_ESCALATION = _in(
    "supervisor_restarts", "giving_up_goes_up_the_tree_to_a_supervisor_within_its_limit"
)
_IN_ORDER = _in("supervisor", "children_start_in_order_stop_in_reverse_and_are_listed_last_first")
_LOOP = _here("an_endless_restart_loop_can_be_ended")
_REQUESTS = Covered(
    "../otp/test_supervisors.py::test_61_each_request_about_a_child_has_an_answer_in_each_state"
)
_BAD_FIELD = _in("child_spec", "an_invalid_field_is_refused_with_advice")
_ONE_SPEC = _in("dynamic_supervisor", "one_spec_serves_many_children_with_arguments_of_their_own")

CASES: Cases = {
    "supervisor_SUITE": {
        "sup_start_normal": _IN_ORDER,
        "sup_start_ignore_init": NotPortable(
            "the init of a supervisor is not the user's, so it cannot decide not to run"
        ),
        "sup_start_ignore_child": _in(
            "supervisor", "a_boot_continues_after_a_child_that_ignores_its_start_and_keeps_it"
        ),
        "sup_start_ignore_temporary_child": _in(
            "supervisor", "a_temporary_child_that_ignores_its_start_is_forgotten"
        ),
        "sup_start_ignore_temporary_child_start_child": _in(
            "supervisor_requests",
            "start_child_that_is_ignored_keeps_the_spec_unless_it_is_temporary",
        ),
        "sup_start_ignore_temporary_child_start_child_simple": _IGNORED,
        "sup_start_ignore_permanent_child_start_child_simple": _IGNORED,
        "sup_start_error_return": _BOOT_FAILS,
        "sup_start_fail": _in(
            "supervisor", "a_starter_dies_with_a_supervisor_that_does_not_boot_unless_it_traps"
        ),
        "sup_start_child_returns_error": _in(
            "supervisor_requests", "a_failed_start_child_has_the_reason_and_keeps_nothing"
        ),
        "sup_start_restart_child_returns_error": _in(
            "supervisor_requests", "a_failed_restart_child_has_the_reason_and_leaves_it_stopped"
        ),
        "sup_start_child_returns_error_simple": _DYNAMIC_FAILS,
        "sup_start_map": _IN_ORDER,
        "sup_start_map_simple": _ONE_SPEC,
        "sup_start_map_faulty_specs": _BAD_FIELD,
        "sup_stop_infinity": _in("children", "an_infinite_shutdown_waits_as_long_as_it_takes"),
        "sup_stop_timeout": _in(
            "children", "a_child_that_ignores_its_shutdown_is_killed_after_the_limit"
        ),
        "sup_stop_brutal_kill": _in("children", "a_child_with_brutal_kill_never_runs_terminate"),
        "child_adm": _REQUESTS,
        "child_adm_simple": _in("dynamic_supervisor", "terminate_child_stops_it_for_good"),
        "child_specs": _in(
            "supervisor_requests", "start_child_refuses_a_child_that_does_not_fit_the_supervisor"
        ),
        "extra_return": NotPortable(
            "a start returns a pid and nothing beside it; what else there is to say is sent"
        ),
        "sup_flags": _in("supervisor", "nothing_starts_if_a_spec_or_option_is_invalid"),
        "permanent_normal": _PERMANENT,
        "permanent_shutdown": _PERMANENT,
        "permanent_abnormal": _PERMANENT,
        "transient_normal": _TRANSIENT,
        "transient_shutdown": _TRANSIENT,
        "transient_abnormal": _TRANSIENT,
        "temporary_normal": _TEMPORARY,
        "temporary_shutdown": _TEMPORARY,
        "temporary_abnormal": _TEMPORARY,
        "temporary_bystander": _here(
            "a_temporary_bystander_of_a_group_restart_is_stopped_and_forgotten"
        ),
        "multiple_restarts": _in("supervisor_restarts", "crashes_count_only_within_the_window"),
        "one_for_one": _in("supervisor", "siblings_of_a_child_that_ends_are_left_alone"),
        "one_for_one_escalation": _ESCALATION,
        "one_for_all": _in(
            "supervisor_restarts", "one_for_all_restarts_every_child_for_one_restart"
        ),
        "one_for_all_escalation": _ESCALATION,
        "one_for_all_other_child_fails_restart": _in(
            "supervisor_restarts",
            "one_for_all_tries_the_whole_group_again_when_another_child_fails_to_restart",
        ),
        "rest_for_one": _in(
            "supervisor_restarts", "rest_for_one_restarts_the_children_started_later"
        ),
        "rest_for_one_escalation": _ESCALATION,
        "rest_for_one_other_child_fails_restart": _in(
            "supervisor_restarts",
            "rest_for_one_tries_again_from_the_child_that_failed_to_restart",
        ),
        "simple_one_for_one": _in(
            "dynamic_supervisor", "restart_types_mean_the_same_as_under_a_fixed_supervisor"
        ),
        "simple_one_for_one_shutdown": _in(
            "children",
            "a_static_supervisor_stops_one_after_another_and_a_dynamic_one_all_at_once",
        ),
        "simple_one_for_one_extra": _ONE_SPEC,
        "simple_one_for_one_escalation": _here(
            "one_crash_too_many_of_a_dynamic_child_ends_its_supervisor_and_its_siblings"
        ),
        "child_unlink": _in(
            "children", "a_child_that_unlinked_itself_does_not_hang_its_supervisor"
        ),
        "tree": _here("a_tree_counts_by_level_restarts_by_branch_and_stops_as_a_whole"),
        "count_children": _in(
            "supervisor_requests", "count_children_counts_known_alive_supervisors_and_workers"
        ),
        "count_children_supervisor": _here(
            "a_tree_counts_by_level_restarts_by_branch_and_stops_as_a_whole"
        ),
        "count_restarting_children": _in(
            "dynamic_supervisor", "a_restarting_child_is_counted_but_not_as_active"
        ),
        "hanging_restart_loop": _LOOP,
        "hanging_restart_loop_rest_for_one": _LOOP,
        "hanging_restart_loop_simple": _here(
            "an_endless_restart_loop_of_a_dynamic_supervisor_can_be_ended"
        ),
        "order_of_children": _IN_ORDER,
        "scale_start_stop_many_children": _here(
            "many_children_of_a_static_supervisor_start_and_stop"
        ),
        "simple_one_for_one_scale_many_temporary_children": _here(
            "many_temporary_children_of_a_dynamic_supervisor_come_and_go"
        ),
        "do_not_save_start_parameters_for_temporary_children": _in(
            "dynamic_supervisor",
            "the_arguments_of_a_temporary_child_are_not_kept_and_those_of_others_are",
        ),
        "do_not_save_child_specs_for_temporary_children": _here(
            "a_static_supervisor_keeps_no_spec_of_a_temporary_child_that_has_ended"
        ),
        "faulty_application_shutdown": _here(
            "a_supervisor_whose_child_fails_to_stop_stops_with_its_application"
        ),
        "get_callback_module": NotPortable(
            "a supervisor has no callback module: its children are given to it as values"
        ),
        "simple_global_supervisor": NotPortable(
            "there is one node, so a supervisor cannot be global"
        ),
        "code_change": _NO_UPGRADES,
        "code_change_map": _NO_UPGRADES,
        "code_change_simple": _NO_UPGRADES,
        "code_change_simple_map": _NO_UPGRADES,
    }
}
