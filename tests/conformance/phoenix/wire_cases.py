"""The cases of Phoenix's own tests about sockets, serializers and tokens, and which test covers each."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {
    "socket/socket_test": 12,
    "socket/message_test": 3,
    "socket/v1_json_serializer_test": 5,
    "socket/v2_json_serializer_test": 13,
    "token_test": 21,
}


def _by(test: str) -> Covered:
    return Covered(f"../../{test}")


_A_MESSAGE_IS_AN = _by("channels/serializers/test_v1.py::test_text_and_binary_frames_decode_alike")
_WHAT_IS_NO_MESSAGE = _by(
    "channels/serializers/test_v1.py::test_an_invalid_message_is_a_decode_error"
)
_CHANNELS_GET_COPIES_OF = _by(
    "channels/connection/test_channel_server.py::test_channels_get_copies_of_the_sockets_assigns_under_those_of_the_route"
)
_ASSIGNS_IS_A_DICT = NotPortable("assigns is a dict, and Python's own ways to fill one do")
_OPTIONS_OF_AN_ENDPOINT = NotPortable(
    "options of an endpoint are values, which a program may compute as it likes"
)
_AN_ENDPOINT_ALWAYS_TELLS = NotPortable("an endpoint always tells its clients before it stops")
_A_PARAMETER_WHOSE_NAME = _by(
    "channels/test_filters.py::test_a_parameter_whose_name_contains_a_term_is_masked_at_any_depth"
)
_NO_FRAME_CARRIES_A = _by("channels/serializers/test_v1.py::test_no_frame_contains_a_join_ref")
_PUSHES_AND_BROADCASTS_OF = _by(
    "channels/serializers/test_v2.py::test_payloads_of_pushes_and_broadcasts_must_be_objects"
)
_NAMES_OF_255_BYTES = _by(
    "channels/serializers/test_v2_binary.py::test_names_of_255_bytes_fit_and_longer_ones_raise_with_the_field"
)
_A_TOKEN_OF_PHOENIX = _by(
    "channels/tokens/test_token.py::test_a_token_of_phoenix_is_reproduced_exactly_and_read"
)
_THE_SECRET_MAY_BE = _by(
    "channels/tokens/test_token.py::test_the_secret_may_be_that_of_an_endpoint_a_socket_or_a_channel"
)
_A_MISSING_TOKEN_IS = _by(
    "channels/tokens/test_token.py::test_a_missing_token_and_a_wrong_one_are_different_errors"
)
_A_TOKEN_CHANGED_ANYWHERE = _by(
    "channels/tokens/test_token.py::test_a_token_changed_anywhere_is_refused"
)
_THE_AGE_IN_THE = _by(
    "channels/tokens/test_token.py::test_the_reader_can_override_the_maximum_age_of_a_token"
)
_A_TOKEN_FOR_EVER = _by(
    "channels/tokens/test_token.py::test_a_token_without_a_maximum_age_never_expires"
)
_AN_ENCRYPTED_TOKEN_OF = _by(
    "channels/tokens/test_token.py::test_an_encrypted_token_of_phoenix_is_read_and_reproduced_exactly"
)

CASES: Cases = {
    "socket/socket_test": {
        "L18 returns the correct channel handler module": _by(
            "channels/test_topics.py::test_the_first_matching_route_wins_whether_exact_or_splat"
        ),
        "L26 from_map! converts a map with string keys into a %Message{}": _A_MESSAGE_IS_AN,
        "L31 from_map! raises InvalidMessageError when any required key": _WHAT_IS_NO_MESSAGE,
        "L51 assigns to socket": _CHANNELS_GET_COPIES_OF,
        "L60 assigns a map socket": _CHANNELS_GET_COPIES_OF,
        "L68 merges if values exist": _CHANNELS_GET_COPIES_OF,
        "L76 merges keyword lists": _ASSIGNS_IS_A_DICT,
        "L84 accepts functions": _ASSIGNS_IS_A_DICT,
        "L113 loads static drainer config": _by(
            "channels/endpoint/test_drainer.py::test_clients_are_closed_in_batches_and_each_batch_is_an_event"
        ),
        "L125 loads dynamic drainer config": _OPTIONS_OF_AN_ENDPOINT,
        "L136 returns ignore if drainer is set to false": _AN_ENDPOINT_ALWAYS_TELLS,
        "L144 disconnect broadcast emits close code 1001 so phoenix.js reconnects": _by(
            "channels/connection/test_connection.py::test_disconnect_closes_every_connection_of_that_user_with_1001"
        ),
    },
    "socket/message_test": {
        "L8 filters sensitive values in form submit events": _A_PARAMETER_WHOSE_NAME,
        "L24 filters sensitive values at the end of form submit events": _A_PARAMETER_WHOSE_NAME,
        "L40 handles malformed query strings gracefully": _by(
            "channels/endpoint/test_endpoint.py::test_a_crash_report_does_not_show_what_the_log_may_not"
        ),
    },
    "socket/v1_json_serializer_test": {
        "L23 encode!/1 encodes `Phoenix.Socket.Message` as JSON": _NO_FRAME_CARRIES_A,
        "L35 encode!/1 encodes `Phoenix.Socket.Reply` as JSON": _by(
            "channels/serializers/test_v1.py::test_payloads_may_be_any_json_value"
        ),
        "L47 decode!/2 decodes `Phoenix.Socket.Message` from JSON": _A_MESSAGE_IS_AN,
        "L52 decode!/2 raise a PayloadFormatException if the JSON doesn't contain a map": _WHAT_IS_NO_MESSAGE,
        "L60 fastlane!/1 encodes a broadcast into a message as JSON": _NO_FRAME_CARRIES_A,
    },
    "socket/v2_json_serializer_test": {
        "L91 encode!/1 encodes `Phoenix.Socket.Message` as JSON": _by(
            "channels/serializers/test_v2.py::test_a_push_has_a_join_ref_and_no_ref"
        ),
        "L96 encode!/1 raises when payload is not a map": _PUSHES_AND_BROADCASTS_OF,
        "L101 encode!/1 encodes `Phoenix.Socket.Reply` as JSON": _by(
            "channels/serializers/test_v2.py::test_a_reply_echoes_both_refs_and_wraps_the_response"
        ),
        "L114 decode!/2 decodes `Phoenix.Socket.Message` from JSON": _by(
            "channels/serializers/test_v2.py::test_an_array_of_five_is_a_message"
        ),
        "L119 fastlane!/1 encodes a broadcast into a message as JSON": _by(
            "channels/serializers/test_v2.py::test_a_broadcast_has_no_refs"
        ),
        "L124 fastlane!/1 raises when payload is not a map": _PUSHES_AND_BROADCASTS_OF,
        "L130 general pushed message": _by(
            "channels/serializers/test_v2_binary.py::test_a_binary_push_is_kind_0_with_three_sizes"
        ),
        "L157 encode with oversized headers": _NAMES_OF_255_BYTES,
        "L189 reply": _by(
            "channels/serializers/test_v2_binary.py::test_a_binary_reply_is_kind_1_with_four_sizes"
        ),
        "L199 reply with oversized headers": _NAMES_OF_255_BYTES,
        "L211 fastlane": _by(
            "channels/serializers/test_v2_binary.py::test_a_binary_broadcast_is_kind_2_with_two_sizes"
        ),
        "L219 fastlane with oversized headers": _NAMES_OF_255_BYTES,
        "L239 pushed message": _by(
            "channels/serializers/test_v2_binary.py::test_a_binary_push_holds_four_strings_and_the_data"
        ),
    },
    "token_test": {
        "L17 token with string": _A_TOKEN_OF_PHOENIX,
        "L24 token with connection": _THE_SECRET_MAY_BE,
        "L30 token with socket": _THE_SECRET_MAY_BE,
        "L40 fails on missing token": _A_MISSING_TOKEN_IS,
        "L44 fails on invalid token": _A_TOKEN_CHANGED_ANYWHERE,
        "L54 supports max age in seconds": _THE_AGE_IN_THE,
        "L68 supports :infinity for max age": _A_TOKEN_FOR_EVER,
        "L73 supports signed_at in seconds": _A_TOKEN_OF_PHOENIX,
        "L81 passes key_iterations options to key generator": _A_TOKEN_OF_PHOENIX,
        "L87 passes key_digest options to key generator": _A_TOKEN_OF_PHOENIX,
        "L93 key defaults": _by(
            "channels/tokens/test_token.py::test_the_derived_key_is_that_of_phoenix"
        ),
        "L109 token with string": _AN_ENCRYPTED_TOKEN_OF,
        "L116 token with connection": _THE_SECRET_MAY_BE,
        "L122 token with socket": _THE_SECRET_MAY_BE,
        "L128 fails on missing token": _A_MISSING_TOKEN_IS,
        "L132 fails on invalid token": _A_TOKEN_CHANGED_ANYWHERE,
        "L142 supports max age in seconds": _THE_AGE_IN_THE,
        "L156 supports :infinity for max age": _A_TOKEN_FOR_EVER,
        "L161 supports signed_at in seconds": _AN_ENCRYPTED_TOKEN_OF,
        "L171 passes key_iterations options to key generator": _AN_ENCRYPTED_TOKEN_OF,
        "L177 passes key_digest options to key generator": _AN_ENCRYPTED_TOKEN_OF,
    },
}
