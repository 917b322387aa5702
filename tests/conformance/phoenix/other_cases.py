"""The cases of Phoenix's own tests about presence, debugging and logs, and which test covers each."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"presence_test": 21, "debug_test": 9, "logger_test": 11}


def _by(test: str) -> Covered:
    return Covered(f"../../{test}")


_EACH_DIFF_AND_EVERYBODY = _by(
    "channels/presence/test_announcer.py::"
    "test_handle_metas_gets_each_diff_with_everybody_after_it_and_keeps_a_state"
)
_SOCKETS_AND_THEIR_CHANNELS = _by(
    "channels/test_debug.py::test_sockets_and_their_channels_are_listed_in_order"
)
_A_PROCESS_SAYS_WHETHER = _by(
    "channels/test_debug.py::test_is_socket_and_is_channel_tell_processes_apart"
)
_A_CHANNEL_IS_FOUND = _by(
    "channels/test_debug.py::test_a_channel_is_found_by_its_process_until_that_has_ended"
)
_A_PARAMETER_WHOSE_NAME = _by(
    "channels/test_filters.py::test_a_parameter_whose_name_contains_a_term_is_masked_at_any_depth"
)
_KEEP_MASKS_EVERYTHING_BUT = _by(
    "channels/test_filters.py::test_keep_masks_everything_except_its_names"
)
_REQUESTS_FOR_PAGES_ARE = NotPortable("requests for pages are logged by whatever serves them")

CASES: Cases = {
    "presence_test": {
        "L75 defines child_spec/1": _by(
            "channels/presence/test_presence.py::test_a_child_spec_runs_a_presence_without_an_endpoint"
        ),
        "L89 default fetch/2 returns pass-through data": _by(
            "channels/presence/test_presence.py::test_a_tracked_key_is_listed_at_once_with_its_metadata_and_a_ref"
        ),
        "L94 list/1 lists presences from tracker": _by(
            "channels/presence/test_presence.py::test_a_tracked_key_is_listed_at_once_with_its_metadata_and_a_ref"
        ),
        "L106 list/1 returns keys as strings": _by(
            "channels/presence/test_presence.py::test_a_number_as_key_becomes_text_and_shares_the_entry_of_that_text"
        ),
        "L113 get_by_key/2 returns metadata for key": _by(
            "channels/presence/test_presence.py::test_get_by_key_returns_the_metas_of_one_key"
        ),
        "L128 handle_diff broadcasts events with default fetched data": _by(
            "channels/presence/test_presence.py::test_a_client_gets_everybody_and_then_the_changes"
        ),
        "L160 handle_diff broadcasts events with custom fetched data": _by(
            "channels/presence/test_presence.py::test_fetch_adds_to_what_readers_and_clients_get"
        ),
        "L192 handle_diff with custom dispatcher": _by(
            "channels/presence/test_presence.py::test_a_diff_is_delivered_by_the_dispatcher_of_the_presence"
        ),
        "L226 untrack with pid": _by(
            "channels/presence/test_presence.py::test_untrack_removes_one_key_and_untrack_all_the_rest"
        ),
        "L251 track and untrack with %Socket{}": _by(
            "channels/presence/test_presence.py::test_a_channel_that_untracks_itself_leaves_and_stays_joined"
        ),
        "L270 untrack with no tracked presence": _by(
            "channels/presence/test_presence.py::test_untracking_nobody_does_nothing"
        ),
        "L274 update sends join and leave diff": _by(
            "channels/presence/test_presence.py::test_an_update_replaces_the_metadata_and_names_the_ref_before"
        ),
        "L292 update with no tracked presence": _by(
            "channels/presence/test_presence.py::test_an_update_of_nobody_is_an_error"
        ),
        "L296 fetchers_pid": _by(
            "channels/presence/test_announcer.py::test_fetch_runs_in_a_process_of_the_presence_and_not_in_a_channels"
        ),
        "L301 raises when missing init/1": _by(
            "channels/presence/test_announcer.py::test_without_an_init_the_state_of_handle_metas_begins_as_none"
        ),
        "L309 async_merge/2 creates new topic and metas": _EACH_DIFF_AND_EVERYBODY,
        "L325 async_merge/2 adds new presences to existing topic": _EACH_DIFF_AND_EVERYBODY,
        "L349 async_merge/2 adds new metas to existing presence": _EACH_DIFF_AND_EVERYBODY,
        "L375 async_merge/2 removes topic if it doesn't have presences": _EACH_DIFF_AND_EVERYBODY,
        "L400 async_merge/2 removes presence info if it only has one meta": _EACH_DIFF_AND_EVERYBODY,
        "L428 async_merge/2 removes metas when a presence left": _EACH_DIFF_AND_EVERYBODY,
    },
    "debug_test": {
        "L48 returns a list of all currently connected channel socket processes": _SOCKETS_AND_THEIR_CHANNELS,
        "L59 returns true if the given pid is a channel socket process": _A_PROCESS_SAYS_WHETHER,
        "L63 returns false for a non-socket process": _A_PROCESS_SAYS_WHETHER,
        "L69 returns true if the given pid is a channel process": _A_PROCESS_SAYS_WHETHER,
        "L73 returns false for a non-channel process": _A_PROCESS_SAYS_WHETHER,
        "L79 returns a list of all channels for a given socket pid": _SOCKETS_AND_THEIR_CHANNELS,
        "L88 returns error for non-socket pid": _A_PROCESS_SAYS_WHETHER,
        "L94 returns the socket struct for a channel process": _A_CHANNEL_IS_FOUND,
        "L98 returns error for non-channel process": _A_CHANNEL_IS_FOUND,
    },
    "logger_test": {
        "L6 in top level map": _A_PARAMETER_WHOSE_NAME,
        "L16 when a map has secret key": _A_PARAMETER_WHOSE_NAME,
        "L23 when a list has a map with secret": _A_PARAMETER_WHOSE_NAME,
        "L30 does not filter structs": _by(
            "channels/test_filters.py::test_the_filter_does_not_look_into_values_that_are_not_json"
        ),
        "L42 does not fail on atomic keys": _A_PARAMETER_WHOSE_NAME,
        "L51 discards values not specified in params": _KEEP_MASKS_EVERYTHING_BUT,
        "L61 keeps values that are specified in params": _KEEP_MASKS_EVERYTHING_BUT,
        "L68 keeps all values under keys that are kept": _KEEP_MASKS_EVERYTHING_BUT,
        "L75 only filters leaf values": _KEEP_MASKS_EVERYTHING_BUT,
        "L97 invokes log level callback from Plug.Telemetry": _REQUESTS_FOR_PAGES_ARE,
        "L121 invokes log level from Plug.Telemetry": _REQUESTS_FOR_PAGES_ARE,
    },
}
