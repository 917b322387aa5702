"""The cases of Phoenix's own tests about clients that poll, and which test covers each."""

from tests.conformance.elixir.cases import Cases, Covered

COUNTS = {"integration/long_poll_channels_test": 20, "integration/long_poll_socket_test": 7}


def _by(test: str) -> Covered:
    return Covered(f"../../{test}")


_CONNECT_IS_TOLD_OF = _by(
    "channels/longpoll/test_requests.py::test_connect_gets_the_request_that_began_the_session"
)
_A_STALE_JOIN_REF = _by(
    "channels/connection/test_connection.py::test_a_stale_join_ref_is_dropped_and_a_missing_one_is_accepted"
)
_WHO_MAY_NOT_CONNECT = _by("channels/longpoll/test_requests.py::test_a_refused_client_gets_403")
_A_PAGE_FROM_ELSEWHERE = _by(
    "channels/longpoll/test_requests.py::test_a_page_of_another_site_gets_403"
)

CASES: Cases = {
    "integration/long_poll_channels_test": {
        "L361 joins and poll messages": _by(
            "channels/longpoll/test_requests.py::test_a_poll_gets_at_once_what_waits_and_only_once"
        ),
        "L398 rejects the 101st channel join by default": _by(
            "channels/protocol/test_session.py::test_a_join_beyond_the_limit_is_answered_with_both_refs"
        ),
        "L459 transport x_headers are extracted to the socket connect_info": _CONNECT_IS_TOLD_OF,
        "L475 transport trace_context_headers are extracted to the socket connect_info": _CONNECT_IS_TOLD_OF,
        "L494 transport peer_data is extracted to the socket connect_info": _by(
            "channels/longpoll/test_requests.py::test_the_details_of_an_asgi_server_reach_connect_info"
        ),
        "L510 transport uri is extracted to the socket connect_info": _CONNECT_IS_TOLD_OF,
        "L535 publishing events": _by(
            "channels/longpoll/test_requests.py::test_a_post_is_answered_when_every_line_is_processed"
        ),
        "L596 no join_ref is required on non-join messages": _A_STALE_JOIN_REF,
        "L613 lonpoll publishing batch events on v2 protocol": _by(
            "channels/protocol/test_longpoll.py::test_a_batch_is_a_message_on_each_line_whichever_way_lines_end"
        ),
        "L710 shuts down after timeout": _by(
            "channels/longpoll/test_session.py::test_a_session_that_nobody_polls_ends_and_its_channels_with_it"
        ),
        "L723 publish responds with 408 when transport_dispatch times out": _by(
            "channels/longpoll/test_requests.py::test_a_line_not_processed_within_the_window_is_408_and_ends_the_batch"
        ),
        "L745 ignores ndjson batch entries after the first 100": _by(
            "channels/longpoll/test_requests.py::test_lines_beyond_the_hundredth_are_left_out"
        ),
        "L786 refuses connects that error with 403 response": _WHO_MAY_NOT_CONNECT,
        "L794 refuses unallowed origins": _A_PAGE_FROM_ELSEWHERE,
        "L804 filter params on join": _by(
            "channels/test_logger.py::test_each_channel_sets_the_log_level_of_its_joins_and_pushes"
        ),
        "L821 sends phx_error if a channel server abnormally exits": _by(
            "channels/longpoll/test_session.py::test_a_crash_of_a_channel_is_phx_error_and_the_session_lives"
        ),
        "L852 ignores stale join refs and accepts a nil join ref on phx_leave": _A_STALE_JOIN_REF,
        "L890 shuts down when receiving disconnect broadcasts on socket's id": _by(
            "channels/longpoll/test_session.py::test_disconnect_ends_it_and_a_poll_that_is_held_is_answered_at_once"
        ),
        "L919 refuses non-matching versions": _WHO_MAY_NOT_CONNECT,
        "L932 forces application/json content-type": _by(
            "channels/longpoll/test_requests.py::test_any_other_type_of_body_is_one_message"
        ),
    },
    "integration/long_poll_socket_test": {
        "L125 refuses unallowed origins": _A_PAGE_FROM_ELSEWHERE,
        "L135 returns params with sync request": _CONNECT_IS_TOLD_OF,
        "L149 allows a path with variables": _CONNECT_IS_TOLD_OF,
        "L164 accepts the token from params": _by(
            "channels/longpoll/test_requests.py::test_the_parameter_counts_where_there_is_no_header"
        ),
        "L175 the header takes precedence over a stale params token": _by(
            "channels/longpoll/test_requests.py::test_the_header_counts_even_if_the_parameter_is_right"
        ),
        "L191 responses are never cached": _by(
            "channels/longpoll/test_requests.py::test_the_status_line_and_the_order_of_headers_are_those_of_http"
        ),
        "L196 returns pong from async request": _by(
            "channels/longpoll/test_requests.py::test_a_poll_that_is_held_wakes_as_soon_as_there_is_something"
        ),
    },
}
