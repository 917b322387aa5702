"""The cases of Elixir's suites about supervisors of three kinds, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {
    "supervisor_test": 11,
    "supervisor_test start_child/2": 5,
    "dynamic_supervisor_test": 2,
    "dynamic_supervisor_test use/2": 1,
    "dynamic_supervisor_test init/1": 1,
    "dynamic_supervisor_test start_link/3": 4,
    "dynamic_supervisor_test code_change/3": 2,
    "dynamic_supervisor_test start_child/2": 20,
    "dynamic_supervisor_test terminate/2": 8,
    "dynamic_supervisor_test terminate_child/2": 3,
    "partition_supervisor_test child_spec": 2,
    "partition_supervisor_test start_link/1": 8,
    "partition_supervisor_test stop/1": 2,
    "partition_supervisor_test partitions/1": 2,
    "partition_supervisor_test resize!/1": 3,
    "partition_supervisor_test which_children/1": 1,
    "partition_supervisor_test count_children/1": 4,
}


def _in(module: str, name: str) -> Covered:
    folder, slash, stem = module.rpartition("/")
    return Covered(f"../../supervision/{folder}{slash}test_{stem}.py::test_{name}")


def _here(name: str) -> Covered:
    return Covered(f"test_dynamic_supervisor.py::test_{name}")


def _partition(name: str) -> Covered:
    return _in("partitions", name)


_OLD_SPECS = NotPortable("there is one kind of child spec; Elixir's old ones were tuples")
_NO_UPGRADES = NotPortable("code is not replaced in running processes here")
_VIA = _partition("a_registry_address_can_be_the_name")
_DESCRIBED = _in("child_spec", "supervisors_are_described_as_supervisors")
_IN_ORDER = _in("supervisor", "children_start_in_order_stop_in_reverse_and_are_listed_last_first")
_ADDED = _in("supervisor_requests", "start_child_appends_a_child_and_starts_it")
_JUDGED = _in("dynamic_supervisor", "restart_types_mean_the_same_as_under_a_fixed_supervisor")
_FAILED = _in(
    "dynamic_supervisor", "the_error_of_a_failed_start_is_raised_unchanged_and_nothing_is_kept"
)
_RETRIED = _in("dynamic_supervisor", "a_restart_is_tried_until_it_succeeds_and_each_attempt_counts")
_FULL = _in("dynamic_supervisor", "a_restarting_child_counts_against_max_children")
_BAD_FIELD = _in("child_spec", "an_invalid_field_is_refused_with_advice")
_OTHERWISE = _here("a_child_that_stops_with_an_unexpected_reason_is_reported")

_SUPERVISOR: Cases = {
    "supervisor_test": {
        "generates child_spec/1": _DESCRIBED,
        "child_spec/2": _in("child_spec", "overrides_are_fields_of_the_spec"),
        "init/2": _in("supervisor", "nothing_starts_if_a_spec_or_option_is_invalid"),
        "init/2 with old and new child specs": _OLD_SPECS,
        "start_link/3 with local": _in("supervisor", "a_supervisor_can_be_named_and_asked_by_name"),
        "start_link/2": _IN_ORDER,
        "start_link/3": _IN_ORDER,
        "start_link/3 with global": NotPortable("there is one node, so no name is global"),
        "start_link/2 with via": _VIA,
        "start_link/2 with old and new specs": _OLD_SPECS,
        "child life cycle": Covered(
            "../otp/test_supervisors.py::"
            "test_61_each_request_about_a_child_has_an_answer_in_each_state"
        ),
    },
    "supervisor_test start_child/2": {
        "supports old child spec": _OLD_SPECS,
        "supports new child spec as tuple": _in(
            "child_spec", "a_class_becomes_a_spec_named_after_it"
        ),
        "supports new child spec": _ADDED,
        "with invalid child spec": _in(
            "supervisor_requests", "start_child_refuses_a_child_that_does_not_fit_the_supervisor"
        ),
        "with valid child spec": _ADDED,
    },
}

_DYNAMIC: Cases = {
    "dynamic_supervisor_test": {
        "can be supervised directly": _here(
            "several_dynamic_supervisors_can_be_children_with_names"
        ),
        "multiple supervisors can be supervised and identified with simple child spec": _here(
            "several_dynamic_supervisors_can_be_children_with_names"
        ),
    },
    "dynamic_supervisor_test use/2": {"generates child_spec/1": _DESCRIBED},
    "dynamic_supervisor_test init/1": {
        "set default options": _in(
            "dynamic_supervisor", "all_children_share_one_budget_and_one_more_ends_the_supervisor"
        ),
    },
    "dynamic_supervisor_test start_link/3": {
        "with non-ok init": NotPortable(
            "the init of a supervisor is not the user's, so it cannot return anything else"
        ),
        "with registered process": _in("dynamic_supervisor", "a_class_can_be_started_as_it_is"),
        "with spawn_opt": NotPortable("processes have no heap sizes or priorities to set"),
        "sets initial call to the same as a regular supervisor": NotPortable(
            "what a process runs is a label for logs, which nothing depends on"
        ),
    },
    "dynamic_supervisor_test code_change/3": {
        "with non-ok init": _NO_UPGRADES,
        "with ok init": _NO_UPGRADES,
    },
    "dynamic_supervisor_test start_child/2": {
        "supports old child spec": _OLD_SPECS,
        "supports new child spec as tuple": _in(
            "dynamic_supervisor", "a_class_can_be_started_as_it_is"
        ),
        "supports new child spec": _in(
            "dynamic_supervisor",
            "children_may_share_an_id_and_are_listed_last_first_without_ids",
        ),
        "supports extra arguments": _in(
            "dynamic_supervisor", "one_spec_serves_many_children_with_arguments_of_their_own"
        ),
        "with invalid child spec": _in(
            "dynamic_supervisor", "an_invalid_child_is_refused_in_the_caller"
        ),
        "with different returns": _FAILED,
        "with throw/error/exit": _FAILED,
        "with max_children": _in("dynamic_supervisor", "no_more_than_max_children_are_started"),
        "temporary child is not restarted regardless of reason": _JUDGED,
        "transient child is restarted unless normal/shutdown/{shutdown, _}": _JUDGED,
        "permanent child is restarted regardless of reason": _JUDGED,
        "child is restarted with different values": _in(
            "dynamic_supervisor", "a_child_that_ignores_its_restart_is_forgotten"
        ),
        "restarting on init children counted in max_children": _FULL,
        "restarting on exit children counted in max_children": _FULL,
        "restarting a child with extra_arguments successfully restarts child": _in(
            "dynamic_supervisor", "a_restarted_child_gets_its_own_arguments_again"
        ),
        "child is restarted when trying again": _RETRIED,
        "child triggers maximum restarts": _in(
            "dynamic_supervisor", "all_children_share_one_budget_and_one_more_ends_the_supervisor"
        ),
        "child triggers maximum intensity when trying again": _here(
            "one_restart_attempt_too_many_ends_the_supervisor"
        ),
        "with valid shutdown": _in(
            "child_spec", "a_shutdown_of_zero_and_a_brutal_kill_and_infinity_are_allowed"
        ),
        "with invalid valid shutdown": _BAD_FIELD,
    },
    "dynamic_supervisor_test terminate/2": {
        "terminates children with brutal kill": _here(
            "children_with_a_brutal_kill_are_killed_without_a_report"
        ),
        "terminates children with infinity shutdown": _here(
            "children_with_an_infinite_shutdown_are_waited_for"
        ),
        "terminates children with infinity shutdown and abnormal reason": _OTHERWISE,
        "terminates children with integer shutdown": _here(
            "children_with_a_limit_stop_within_it_all_at_once"
        ),
        "terminates children with integer shutdown and abnormal reason": _OTHERWISE,
        "terminates children with expired integer shutdown": _here(
            "children_beyond_their_shutdown_limit_are_killed_and_reported"
        ),
        "terminates children with permanent restart and normal reason": _here(
            "only_a_permanent_child_must_stop_with_shutdown"
        ),
        "terminates with mixed children": _here(
            "a_mix_of_children_is_stopped_each_as_its_spec_says"
        ),
    },
    "dynamic_supervisor_test terminate_child/2": {
        "terminates child with brutal kill": _here(
            "terminate_child_stops_a_child_as_its_spec_says"
        ),
        "terminates child with integer shutdown": _here(
            "terminate_child_stops_a_child_as_its_spec_says"
        ),
        "terminates restarting child": _in(
            "dynamic_supervisor", "a_restarting_child_can_be_terminated_by_its_last_pid"
        ),
    },
}

_REFUSED = _partition("an_invalid_option_is_refused_before_anything_starts")
_NEEDED = _partition("a_name_and_a_child_are_required")
_UNKNOWN = _partition("a_process_that_is_not_a_partition_supervisor_raises_no_process")
_COUNTED = _partition("copies_are_counted_by_their_type")

_PARTITION: Cases = {
    "partition_supervisor_test child_spec": {
        "uses the atom name as id": _partition(
            "a_partition_supervisor_can_be_a_child_and_its_id_is_its_name"
        ),
        "uses the via value as id": _VIA,
    },
    "partition_supervisor_test start_link/1": {
        "on success with atom name": _partition("the_ids_of_the_copies_are_their_numbers"),
        "on success with via name": _VIA,
        "with_arguments": _partition("each_copy_may_have_arguments_of_its_own"),
        "raises without name": _NEEDED,
        "raises without child_spec": _NEEDED,
        "raises on bad partitions": _REFUSED,
        "raises on bad with_arguments": _REFUSED,
        "raises with bad auto_shutdown": _partition("there_is_no_auto_shutdown"),
    },
    "partition_supervisor_test stop/1": {
        "is synchronous": _partition("a_stop_ends_all_copies_and_waits"),
        "with via tuple": _VIA,
    },
    "partition_supervisor_test partitions/1": {
        "raises noproc for unknown atom partition supervisor": _UNKNOWN,
        "raises noproc for unknown via partition supervisor": _UNKNOWN,
    },
    "partition_supervisor_test resize!/1": {
        "resizes the number of children": _partition(
            "resizing_stops_those_at_the_end_and_starts_them_again"
        ),
        "raises on lookup after resizing to zero": _partition(
            "a_resize_to_0_stops_every_key_until_the_partitions_are_back"
        ),
        "raises if trying to increase the number of partitions": _partition(
            "a_resize_is_limited_to_the_number_at_the_start"
        ),
    },
    "partition_supervisor_test which_children/1": {
        "returns all partitions": _partition("the_ids_of_the_copies_are_their_numbers"),
    },
    "partition_supervisor_test count_children/1": {
        "with workers": _COUNTED,
        "with supervisors": _COUNTED,
        "with via tuple": _VIA,
        "raises noproc for unknown partition supervisor": _UNKNOWN,
    },
}

CASES: Cases = {**_SUPERVISOR, **_DYNAMIC, **_PARTITION}
