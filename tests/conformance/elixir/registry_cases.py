"""The cases of Elixir's registry suites, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"registry_test": 6, "registry/unique_test": 35, "registry/duplicate_test": 34}


def _both(name: str) -> Covered:
    return Covered(f"test_registry.py::test_{name}")


def _unique(name: str) -> Covered:
    return Covered(f"test_registry_unique.py::test_{name}")


def _duplicate(name: str) -> Covered:
    return Covered(f"test_registry_duplicate.py::test_{name}")


_NO_SPECS = NotPortable(
    "there are no match specs that could have a wrong shape: they are functions"
)
_NO_ETS = NotPortable("about a leak in ETS, in which Elixir keeps its entries")

CASES: Cases = {
    "registry_test": {
        "clean up registry on process crash": _both("a_crash_removes_the_entries_of_the_process"),
        "does not lock when using different keys": _both("different_keys_have_different_locks"),
        "locks when using the same key": _both("the_same_key_has_one_lock"),
        "locks when the one holding the lock raises": _both(
            "a_lock_is_released_when_its_holder_fails"
        ),
        "locks when the one holding the lock terminates": _both(
            "a_lock_is_released_when_its_holder_is_declared_dead"
        ),
        "locks when the one waiting for the lock terminates": _both(
            "a_lock_skips_a_process_that_ended_while_it_waited"
        ),
    },
    "registry/unique_test": {
        "counts 0 keys in an empty registry": _unique("an_empty_registry_counts_0"),
        "counts the number of keys in a registry": _unique("entries_are_counted"),
        "has unique registrations": _unique("a_key_is_registered_once"),
        "has unique registrations across processes": _unique(
            "a_key_is_taken_while_its_process_lives"
        ),
        "supports match patterns": _unique("values_are_matched_by_a_function"),
        "count_match supports match patterns": _unique("matches_are_counted"),
        "unregister_match supports patterns": _unique("matching_entries_are_unregistered"),
        "updates current process value": _unique("a_process_updates_its_own_value"),
        "dispatches to a single key": _unique("dispatch_calls_in_the_caller_and_only_with_entries"),
        "unregisters process by key": _unique("a_process_unregisters_by_key"),
        "unregisters with no entries": _unique(
            "unregistering_a_key_that_one_does_not_have_does_nothing"
        ),
        "allows listeners": _unique("listeners_get_messages_about_calls_and_not_about_ends"),
        "raises on unknown registry name": _unique(
            "an_ended_registry_refuses_every_operation_but_via"
        ),
        "empty list for empty registry": _unique("an_empty_registry_selects_nothing"),
        "select all": _unique("everything_is_selected"),
        "select allows multiple specs": _unique("entries_are_selected_by_key_pid_and_value"),
        "count_select allows multiple specs": _unique("selected_entries_are_counted"),
        "starts configured number of partitions": _unique(
            "the_number_of_partitions_is_a_whole_number_from_1"
        ),
        "has unique registrations even if partition is delayed": _unique(
            "the_first_of_many_at_once_gets_the_key"
        ),
        "supports guard conditions": _unique("values_are_matched_by_a_function"),
        "supports reserved keys": _unique("no_key_is_special"),
        "count_match supports guard conditions": _unique("matches_are_counted"),
        "unregister_match supports guards": _unique("matching_entries_are_unregistered"),
        "compares using ===": _unique("keys_are_compared_strictly"),
        "links and unlinks on register/unregister": _unique(
            "entries_make_no_links_and_end_with_their_process"
        ),
        "via callbacks": _unique("a_via_is_a_name_and_an_address"),
        "uses value provided in via": _unique("a_via_registers_with_the_value_it_was_given"),
        "select supports full match specs": _unique("entries_are_selected_by_key_pid_and_value"),
        "select supports guard conditions": _unique("entries_are_selected_by_key_pid_and_value"),
        "select raises on incorrect shape of match spec": _NO_SPECS,
        "count_select supports match specs": _unique("selected_entries_are_counted"),
        "count_select supports guard conditions": _unique("selected_entries_are_counted"),
        "count_select raises on incorrect shape of match spec": _NO_SPECS,
        "doesn't grow ets on already_registered": _NO_ETS,
        "doesn't grow ets on already_registered across processes": _NO_ETS,
    },
    "registry/duplicate_test": {
        "counts 0 keys in an empty registry": _duplicate("an_empty_registry_counts_0"),
        "counts the number of keys in a registry": _duplicate("entries_are_counted_and_not_keys"),
        "has duplicate registrations": _duplicate("a_process_registers_a_key_several_times"),
        "has duplicate registrations across processes": _duplicate(
            "several_processes_register_a_key"
        ),
        "compares using matches": _duplicate("keys_are_compared_strictly"),
        "dispatches to multiple keys in serial": _duplicate(
            "dispatch_calls_once_for_each_partition_that_has_entries"
        ),
        "dispatches to multiple keys in parallel": _duplicate(
            "dispatch_starts_work_in_a_nursery_of_the_caller"
        ),
        "unregisters by key": _duplicate("all_entries_of_a_key_are_unregistered"),
        "unregisters with no entries": _duplicate(
            "unregistering_a_key_that_one_does_not_have_does_nothing"
        ),
        "supports match patterns": _duplicate("values_are_matched_by_a_function"),
        "uses exact complex keys in lookup and match": _duplicate(
            "keys_of_any_complexity_are_looked_up"
        ),
        "count_match supports match patterns": _duplicate("matches_are_counted"),
        "unregister_match supports patterns": _duplicate("matching_entries_are_unregistered"),
        "allows listeners": _duplicate("listeners_get_messages_about_calls_and_not_about_ends"),
        "raises on unknown registry name": _duplicate("an_ended_registry_refuses_every_operation"),
        "empty list for empty registry": _duplicate("an_empty_registry_selects_nothing"),
        "select all": _duplicate("everything_is_selected"),
        "select allows multiple specs": _duplicate("entries_are_selected_by_key_pid_and_value"),
        "count_select allows multiple specs": _duplicate("selected_entries_are_counted"),
        "update_value is not supported": _duplicate(
            "a_duplicate_key_has_no_via_whereis_or_update_value"
        ),
        "starts configured number of partitions": _duplicate(
            "dispatch_calls_once_for_each_partition_that_has_entries"
        ),
        "supports guards": _duplicate("values_are_matched_by_a_function"),
        "count_match supports guard conditions": _duplicate("matches_are_counted"),
        "unregister_match supports guards": _duplicate("matching_entries_are_unregistered"),
        "links and unlinks on register/unregister": _duplicate(
            "entries_make_no_links_and_end_with_their_process"
        ),
        "raises if attempt to be used on via": _duplicate(
            "a_duplicate_key_has_no_via_whereis_or_update_value"
        ),
        "select supports full match specs": _duplicate("entries_are_selected_by_key_pid_and_value"),
        "select supports guard conditions": _duplicate("entries_are_selected_by_key_pid_and_value"),
        "count_select supports match specs": _duplicate("selected_entries_are_counted"),
        "count_select supports guard conditions": _duplicate("selected_entries_are_counted"),
        "rejects invalid tuple syntax": NotPortable(
            "about how the way of partitioning is written; there is one way here"
        ),
        "supports reserved keys": _duplicate("no_key_is_special"),
        "select with reserved-atom keys": _duplicate("no_key_is_special"),
        "count_select with reserved-atom keys": _duplicate("no_key_is_special"),
    },
}
