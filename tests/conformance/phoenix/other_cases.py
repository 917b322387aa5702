"""The cases of Phoenix's own tests about presence, debugging and logs, and which test covers each."""

from tests.conformance.elixir.cases import Cases, Covered, Missing, NotPortable

COUNTS = {"presence_test": 21, "debug_test": 9, "logger_test": 11}


def _by(test: str) -> Covered:
    return Covered(f"../../{test}")


_THERE_IS_NO_PRESENCE = Missing("there is no presence yet, and with it these will come")
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
        "L75 defines child_spec/1": _THERE_IS_NO_PRESENCE,
        "L89 default fetch/2 returns pass-through data": _THERE_IS_NO_PRESENCE,
        "L94 list/1 lists presences from tracker": _THERE_IS_NO_PRESENCE,
        "L106 list/1 returns keys as strings": _THERE_IS_NO_PRESENCE,
        "L113 get_by_key/2 returns metadata for key": _THERE_IS_NO_PRESENCE,
        "L128 handle_diff broadcasts events with default fetched data": _THERE_IS_NO_PRESENCE,
        "L160 handle_diff broadcasts events with custom fetched data": _THERE_IS_NO_PRESENCE,
        "L192 handle_diff with custom dispatcher": _THERE_IS_NO_PRESENCE,
        "L226 untrack with pid": _THERE_IS_NO_PRESENCE,
        "L251 track and untrack with %Socket{}": _THERE_IS_NO_PRESENCE,
        "L270 untrack with no tracked presence": _THERE_IS_NO_PRESENCE,
        "L274 update sends join and leave diff": _THERE_IS_NO_PRESENCE,
        "L292 update with no tracked presence": _THERE_IS_NO_PRESENCE,
        "L296 fetchers_pid": _THERE_IS_NO_PRESENCE,
        "L301 raises when missing init/1": _THERE_IS_NO_PRESENCE,
        "L309 async_merge/2 creates new topic and metas": _THERE_IS_NO_PRESENCE,
        "L325 async_merge/2 adds new presences to existing topic": _THERE_IS_NO_PRESENCE,
        "L349 async_merge/2 adds new metas to existing presence": _THERE_IS_NO_PRESENCE,
        "L375 async_merge/2 removes topic if it doesn't have presences": _THERE_IS_NO_PRESENCE,
        "L400 async_merge/2 removes presence info if it only has one meta": _THERE_IS_NO_PRESENCE,
        "L428 async_merge/2 removes metas when a presence left": _THERE_IS_NO_PRESENCE,
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
