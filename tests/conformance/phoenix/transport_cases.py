"""The cases of Phoenix's own tests about origins, WebSockets and endpoints, and which test covers each."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {
    "socket/transport_test": 24,
    "integration/websocket_channels_test": 28,
    "integration/websocket_socket_test": 9,
    "integration/endpoint_test": 4,
}


def _by(test: str) -> Covered:
    return Covered(f"../../{test}")


_FALSE_LETS_EVERY_PAGE = _by("channels/wire/test_cross_site.py::test_false_lets_every_page_in")
_THE_HOST_OF_THE = NotPortable("the host of the request counts, and needs no configuration")
_A_LIST_NAMES_ORIGINS = _by(
    "channels/wire/test_cross_site.py::test_a_list_names_origins_whose_parts_may_be_left_out"
)
_A_FUNCTION_GETS_THE = _by(
    "channels/wire/test_cross_site.py::test_a_function_gets_the_parsed_origin"
)
_SUBPROTOCOLS_ARE_ANSWERED_OR = _by(
    "channels/test_connect_info.py::test_subprotocols_are_answered_or_refused"
)
_TRANSPORT_SESSION_IS_EXTRACTED = _by(
    "channels/test_connect_info.py::test_transport_session_is_extracted_to_the_socket_connect_info"
)
_A_TOPIC_IS_SERVED = NotPortable("a topic is served by a channel, and by no other kind of process")
_PATH_PARAMETERS_WIN_OVER = _by(
    "channels/test_connect_info.py::test_path_parameters_override_query_parameters"
)
_WHEN_AN_ENDPOINT_HAS = _by(
    "channels/endpoint/test_endpoint.py::test_a_stopped_endpoint_leaks_nothing"
)

CASES: Cases = {
    "socket/transport_test": {
        "L67 does not check origin if disabled": _FALSE_LETS_EVERY_PAGE,
        "L71 checks origin against host": _by(
            "channels/wire/test_cross_site.py::test_by_default_the_host_of_the_page_is_that_of_the_request"
        ),
        "L78 checks origin from endpoint config": _by(
            "channels/upgrade/test_origin_refusals.py::test_a_page_of_the_same_host_connects"
        ),
        "L85 can get the host from system variables": _THE_HOST_OF_THE,
        "L89 wildcard subdomains": _A_LIST_NAMES_ORIGINS,
        "L104 nested wildcard subdomains": _A_LIST_NAMES_ORIGINS,
        "L124 subdomains do not match without a wildcard": _A_LIST_NAMES_ORIGINS,
        "L129 halts invalid URIs when check origin is configured": _by(
            "channels/wire/test_cross_site.py::test_origin_checks_do_not_raise_for_arbitrary_headers"
        ),
        "L149 allows custom MFA check to handle invalid host": _A_FUNCTION_GETS_THE,
        "L157 checks origin against :conn": _by(
            "channels/wire/test_cross_site.py::test_conn_compares_scheme_host_and_port"
        ),
        "L173 does not halt invalid URIs when check_origin is disabled": _FALSE_LETS_EVERY_PAGE,
        "L179 checks the origin of requests against allowed origins": _A_LIST_NAMES_ORIGINS,
        "L213 checks the origin of requests against an MFA": _A_FUNCTION_GETS_THE,
        "L229 checks the origin of requests against an MFA, passing additional arguments": _A_FUNCTION_GETS_THE,
        "L242 does not share the origin policy between mounts of the same handler": _by(
            "channels/upgrade/test_origin_refusals.py::test_a_mount_can_allow_other_origins"
        ),
        "L278 does not check subprotocols if not passed expected": _by(
            "channels/wire/test_handshake.py::test_subprotocols_are_ignored_unless_the_mount_has_some"
        ),
        "L282 does not check subprotocols if conn is halted": _SUBPROTOCOLS_ARE_ANSWERED_OR,
        "L288 returns first matched subprotocol": _by(
            "channels/wire/test_handshake.py::test_the_first_configured_subprotocol_that_the_client_offers_wins"
        ),
        "L294 halt if expected and passed subprotocols don't match": _by(
            "channels/wire/test_handshake.py::test_an_offer_without_a_common_subprotocol_is_refused_and_no_offer_is_accepted"
        ),
        "L300 halt if expected subprotocols passed in the wrong format": _by(
            "channels/test_connect_info.py::test_invalid_subprotocols_are_refused"
        ),
        "L313 loads the session from MFA": _TRANSPORT_SESSION_IS_EXTRACTED,
        "L327 loads the session with custom :csrf_token_key": _by(
            "channels/test_connect_info.py::test_loads_the_session_with_a_custom_rule"
        ),
        "L363 loads the session when CSRF is disabled despite CSRF token not being provided": _by(
            "channels/test_connect_info.py::test_loads_the_session_when_csrf_is_disabled_despite_csrf_token_not_being_provided"
        ),
        "L376 doesn't load session when an invalid CSRF token is provided": _by(
            "channels/test_connect_info.py::test_does_not_load_session_when_an_invalid_csrf_token_is_provided"
        ),
    },
    "integration/websocket_channels_test": {
        "L254 endpoint handles multiple mount segments": _by(
            "channels/test_connect_info.py::test_endpoint_handles_multiple_mount_segments"
        ),
        "L273 join, leave, and event messages": _by(
            "contracts/test_channels_over_transports.py::test_a_join_is_answered_and_a_push_gets_its_reply"
        ),
        "L329 rejects the 101st channel join by default": _by(
            "channels/connection/test_connection.py::test_a_join_over_the_limit_is_refused_and_a_leave_makes_room"
        ),
        "L370 honors configured max_channels_per_transport": _by(
            "channels/test_connect_info.py::test_honors_configured_max_channels_per_transport"
        ),
        "L400 transport x_headers are extracted to the socket connect_info": _by(
            "channels/test_connect_info.py::test_transport_x_headers_are_extracted_to_the_socket_connect_info"
        ),
        "L419 transport sec-websocket-* headers are extracted to the socket connect_info": _by(
            "channels/test_connect_info.py::test_transport_sec_websocket_headers_are_extracted_to_the_socket_connect_info"
        ),
        "L448 transport trace_context_headers are extracted to the socket connect_info": _by(
            "channels/test_connect_info.py::test_transport_trace_context_headers_are_extracted_to_the_socket_connect_info"
        ),
        "L477 transport peer_data is extracted to the socket connect_info": _by(
            "channels/test_endpoint_sockets.py::test_connect_sees_the_address_of_the_client"
        ),
        "L497 transport uri is extracted to the socket connect_info": _by(
            "channels/test_connect_info.py::test_transport_uri_is_extracted_to_the_socket_connect_info"
        ),
        "L523 transport user agent is extracted to the socket connect_info": _by(
            "channels/test_connect_info.py::test_transport_user_agent_is_extracted_to_the_socket_connect_info"
        ),
        "L546 transport session is extracted to the socket connect_info": _TRANSPORT_SESSION_IS_EXTRACTED,
        "L594 transport custom keywords are extracted to the socket connect_info": _by(
            "channels/test_connect_info.py::test_transport_custom_keywords_are_extracted_to_the_socket_connect_info"
        ),
        "L610 logs user socket connect when enabled": _by(
            "channels/test_logger.py::test_connections_and_joins_are_logged_in_one_line_each"
        ),
        "L623 does not log user socket connect when disabled": _by(
            "channels/test_logger.py::test_each_socket_sets_the_log_level_of_its_connections"
        ),
        "L632 logs and filter params on join and handle_in": _by(
            "channels/test_logger.py::test_each_channel_sets_the_log_level_of_its_joins_and_pushes"
        ),
        "L670 sends phx_error if a channel server abnormally exits": _by(
            "contracts/test_channels_over_transports.py::test_a_crash_is_phx_error_and_the_topic_can_be_joined_again"
        ),
        "L696 channels are terminated if transport normally exits": _by(
            "channels/connection/test_channel_server.py::test_a_channel_ends_with_its_connection_without_a_frame"
        ),
        "L723 refuses websocket events that haven't joined": _by(
            "contracts/test_channels_over_transports.py::test_a_refused_join_and_an_unmatched_topic_are_answered_with_errors"
        ),
        "L738 refuses unallowed origins": _by(
            "contracts/test_channels_over_transports.py::test_a_page_of_another_site_gets_403"
        ),
        "L752 refuses connects that error with 403 response": _by(
            "contracts/test_channels_over_transports.py::test_a_client_that_connect_refuses_gets_403"
        ),
        "L757 refuses connects that error with custom error response": _by(
            "channels/test_connect_info.py::test_refuses_connects_that_error_with_custom_error_response"
        ),
        "L762 shuts down when receiving disconnect broadcasts on socket's id": _by(
            "contracts/test_channels_over_transports.py::test_disconnect_closes_with_1001"
        ),
        "L802 duplicate join event closes existing channel": _by(
            "contracts/test_channels_over_transports.py::test_a_second_join_replaces_the_first"
        ),
        "L823 returns 403 when versions to not match": _by(
            "channels/upgrade/test_first_request.py::test_connect_does_not_run_for_an_unsupported_version"
        ),
        "L833 shuts down if client goes quiet": _by(
            "contracts/test_channels_over_transports.py::test_silence_closes_with_1002"
        ),
        "L848 warns for unmatched topic": _by(
            "channels/connection/test_connection.py::test_a_topic_without_a_route_is_unmatched_and_the_connection_lives"
        ),
        "L884 join, ignore, error, and event messages": _A_TOPIC_IS_SERVED,
        "L928 messages can be pushed and received": _by(
            "contracts/test_channels_over_transports.py::test_binary_messages_travel_both_ways"
        ),
    },
    "integration/websocket_socket_test": {
        "L121 handles invalid upgrade requests": _by(
            "channels/upgrade/test_first_request.py::test_a_refused_request_gets_its_status_and_leaks_nothing"
        ),
        "L129 refuses unallowed origins": _by(
            "channels/upgrade/test_origin_refusals.py::test_a_page_of_another_origin_gets_403_without_a_call_of_connect"
        ),
        "L141 refuses unallowed Websocket subprotocols": _SUBPROTOCOLS_ARE_ANSWERED_OR,
        "L156 returns params with sync request": _by(
            "channels/upgrade/test_first_request.py::test_connect_sees_parameters_headers_and_target"
        ),
        "L162 ignores control frames when handle_control/2 is not defined": _by(
            "channels/connection/test_connection.py::test_a_ping_is_answered_and_a_pong_is_not"
        ),
        "L169 returns pong from async request": _by(
            "contracts/test_channels_over_transports.py::test_a_heartbeat_is_answered"
        ),
        "L175 allows a custom path": _PATH_PARAMETERS_WIN_OVER,
        "L180 allows a path with variables": _PATH_PARAMETERS_WIN_OVER,
        "L190 allows using control frames with a payload": _by(
            "channels/wire/test_websocket.py::test_pings_between_fragments_are_answered_in_their_place"
        ),
    },
    "integration/endpoint_test": {
        "L114 starts drainer in supervision tree if configured": _by(
            "channels/endpoint/test_endpoint.py::test_the_tree_of_a_running_server_is_what_the_documentation_says"
        ),
        "L126 adapters starts on configured port and serves requests and stops for prod": _WHEN_AN_ENDPOINT_HAS,
        "L160 adapters starts on configured port and serves requests and stops for dev": _WHEN_AN_ENDPOINT_HAS,
        "L194 adapters starts on configured port and inet6 for prod": _by(
            "channels/transports/test_listener.py::test_the_listener_can_listen_on_an_ipv6_address"
        ),
    },
}
