"""Which test covers which of phoenix.js's own tests: 164 can be asked of a client that is no browser.

The keys are the lines on which the tests begin in `assets/test` of phoenix.js, at the development version of August
2026. The other tests are about browsers: pages, storage, XMLHttpRequest, JavaScript's numbers and prototypes. A test
that upstream skips is here nevertheless.
"""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

TOTAL = 164
COVERED_AT_LEAST = 150

COUNTS = {
    "channel_test": 69,
    "socket_test": 64,
    "longpoll_test": 10,
    "presence_test": 12,
    "serializer_test": 9,
}

OFF = NotPortable(
    "a listener or a feed is ended by the one who made it, never all of an event at once"
)
ENDS = NotPortable(
    "a socket that its program has closed stays closed; another block opens another one"
)
READY = NotPortable("there is no ready state of a browser that could be unknown")
CLOSING = NotPortable("a connection that is closing is not the connection of the socket any more")
V2 = NotPortable("the client speaks V2 only, and takes no other encoder or decoder")


def _by(test: str) -> Covered:
    """Name a test of the client: `protocol::join` is test_join of test_protocol.py."""
    module, _, name = test.partition("::")
    return Covered(f"../../channels/client/test_{module}.py::test_{name}")


CASES: Cases = {
    "channel_test": {
        "L32": _by("protocol::a_new_channel_is_closed_and_has_the_timeout_of_its_socket"),
        "L45": _by("protocol::a_join_has_its_ref_as_join_ref_and_the_params_as_payload"),
        "L55": _by("protocol::params_that_are_a_function_are_called_at_every_join"),
        "L65": _by("wire::a_token_becomes_a_subprotocol_that_the_server_reads"),
        "L73": _by("socket::params_and_tokens_that_are_functions_are_called_at_every_connect"),
        "L84": _by("protocol::params_that_are_a_function_are_called_at_every_join"),
        "L114": _by("protocol::a_join_has_its_ref_as_join_ref_and_the_params_as_payload"),
        "L120": _by("protocol::a_channel_is_joined_once"),
        "L128": _by("protocol::a_channel_is_joined_once"),
        "L134": _by("protocol::a_join_has_its_ref_as_join_ref_and_the_params_as_payload"),
        "L150": _by("protocol::a_channel_can_have_a_timeout_of_its_own"),
        "L161": _by("protocol::a_second_channel_of_a_topic_replaces_the_first"),
        "L192": _by("protocol::a_join_that_is_answered_with_ok_makes_the_channel_joined"),
        "L213": _by("protocol::a_join_without_an_answer_leaves_the_topic_and_is_repeated"),
        "L240": _by("protocol::the_timeout_of_a_join_runs_while_there_is_no_connection"),
        "L270": _by("protocol::a_join_before_the_connection_is_sent_when_it_opens"),
        "L340": _by("protocol::a_join_that_is_answered_with_ok_makes_the_channel_joined"),
        "L348": _by("protocol::a_join_that_is_answered_with_ok_makes_the_channel_joined"),
        "L358": _by("socket::a_push_without_waiting_has_its_result_later"),
        "L368": _by("protocol::the_answer_settles_the_push"),
        "L381": _by("protocol::the_answer_settles_the_push"),
        "L389": _by("socket::a_push_without_waiting_has_its_result_later"),
        "L397": _by("protocol::the_answer_settles_the_push"),
        "L407": _by("protocol::a_joined_channel_starts_the_table_of_rejoins_again"),
        "L417": _by("protocol::pushes_before_the_join_are_sent_after_its_answer_in_order"),
        "L434": _by("protocol::a_join_without_an_answer_leaves_the_topic_and_is_repeated"),
        "L443": _by("protocol::a_join_without_an_answer_leaves_the_topic_and_is_repeated"),
        "L453": _by("protocol::a_join_without_an_answer_leaves_the_topic_and_is_repeated"),
        "L469": _by("protocol::a_join_without_an_answer_leaves_the_topic_and_is_repeated"),
        "L485": _by("socket::a_refused_join_raises_and_is_not_tried_again"),
        "L497": _by("socket::a_refused_join_raises_and_is_not_tried_again"),
        "L507": _by("protocol::a_refused_join_is_repeated_after_the_waits_of_the_table"),
        "L525": _by("protocol::a_refused_join_is_repeated_after_the_waits_of_the_table"),
        "L533": _by("socket::a_refused_join_raises_and_is_not_tried_again"),
        "L544": _by("socket::a_refused_join_raises_and_is_not_tried_again"),
        "L554": _by("protocol::a_refused_join_is_repeated_after_the_waits_of_the_table"),
        "L560": _by("protocol::pushes_wait_on_when_a_join_is_refused_or_not_answered"),
        "L596": _by("protocol::a_crash_of_the_channel_is_followed_by_a_join"),
        "L604": _by("protocol::a_lost_connection_says_nothing_of_channels_that_are_out_already"),
        "L620": _by("protocol::a_leave_ends_the_attempts_to_rejoin"),
        "L636": _by("protocol::a_close_by_the_server_ends_the_channel"),
        "L652": _by("socket::a_crashed_channel_joins_again_and_the_connection_stays"),
        "L688": _by("protocol::a_close_by_the_server_ends_the_channel"),
        "L696": _by("protocol::a_close_by_the_server_ends_the_channel"),
        "L708": _by("protocol::a_close_by_the_server_ends_the_channel"),
        "L719": _by("protocol::a_close_by_the_server_ends_the_channel"),
        "L730": _by("protocol::a_message_of_the_topic_arrives"),
        "L747": _by("protocol::a_push_of_a_joined_channel_is_sent_at_once"),
        "L754": _by("protocol::pushes_before_the_join_are_sent_after_its_answer_in_order"),
        "L782": _by("socket::a_feed_of_one_event_gets_its_payloads_only"),
        "L795": _by("socket::a_feed_of_one_event_gets_its_payloads_only"),
        "L810": _by("socket::a_listener_is_called_until_it_is_detached"),
        "L816": _by("socket::listeners_may_change_while_a_message_is_passed_on"),
        "L838": OFF,
        "L857": _by("socket::a_listener_is_called_until_it_is_detached"),
        "L901": _by("protocol::a_push_of_a_joined_channel_is_sent_at_once"),
        "L908": _by("protocol::pushes_before_the_join_are_sent_after_its_answer_in_order"),
        "L920": _by("protocol::pushes_wait_on_when_a_join_is_refused_or_not_answered"),
        "L932": _by("socket::the_default_timeout_of_a_push_is_ten_seconds"),
        "L945": _by("protocol::a_push_without_an_answer_times_out_and_a_late_answer_is_dropped"),
        "L958": _by("protocol::the_answer_settles_the_push"),
        "L973": _by("protocol::a_push_to_a_closed_channel_raises"),
        "L977": _by("protocol::a_push_during_an_outage_is_sent_after_the_rejoin"),
        "L1011": _by("protocol::a_leave_closes_the_channel_before_the_server_answers"),
        "L1026": _by("protocol::a_leave_closes_the_channel_before_the_server_answers"),
        "L1036": _by("protocol::a_leave_closes_the_channel_before_the_server_answers"),
        "L1048": _by("protocol::a_leave_closes_the_channel_before_the_server_answers"),
        "L1056": _by("protocol::a_leave_without_an_answer_is_over_after_the_timeout"),
        "L1064": _by("protocol::a_leave_without_an_answer_is_over_after_the_timeout"),
    },
    "socket_test": {
        "L30": _by("protocol::the_defaults_are_those_of_phoenix_js"),
        "L47": _by("socket::params_and_tokens_that_are_functions_are_called_at_every_connect"),
        "L55": _by("socket::a_server_that_goes_silent_is_noticed_by_the_heartbeat"),
        "L88": _by("protocol::a_failure_before_the_first_open_falls_back_at_once"),
        "L155": _by("wire::the_address_of_a_socket"),
        "L193": _by("socket::a_lost_connection_comes_back_with_its_channels"),
        "L219": _by("protocol::connecting_opens_one_connection"),
        "L226": _by("socket::params_and_tokens_that_are_functions_are_called_at_every_connect"),
        "L277": _by("socket::a_lost_connection_comes_back_with_its_channels"),
        "L306": _by("protocol::connecting_opens_one_connection"),
        "L329": _by("protocol::disconnecting_closes_the_connection_and_every_channel_for_good"),
        "L338": _by("socket::the_end_of_the_block_is_a_close_in_good_order"),
        "L348": _by("socket::the_end_of_the_block_is_a_close_in_good_order"),
        "L358": _by("protocol::disconnecting_ends_the_waiting_for_the_next_attempt"),
        "L364": ENDS,
        "L428": _by("protocol::disconnecting_twice_is_fine"),
        "L494": _by("protocol::the_defaults_are_those_of_phoenix_js"),
        "L498": READY,
        "L504": _by("protocol::connecting_opens_one_connection"),
        "L511": _by("socket::a_client_joins_pushes_and_leaves"),
        "L518": CLOSING,
        "L525": _by("protocol::disconnecting_closes_the_connection_and_every_channel_for_good"),
        "L540": _by("protocol::a_new_channel_is_closed_and_has_the_timeout_of_its_socket"),
        "L547": _by("socket::the_statistics_count"),
        "L557": _by("protocol::a_close_by_the_server_ends_the_channel"),
        "L586": _by("protocol::a_push_of_a_joined_channel_is_sent_at_once"),
        "L597": _by("protocol::a_join_before_the_connection_is_sent_when_it_opens"),
        "L621": _by("protocol::pushes_before_the_join_are_sent_after_its_answer_in_order"),
        "L642": _by("protocol::a_heartbeat_without_an_answer_ends_the_connection"),
        "L660": _by("protocol::a_heartbeat_is_sent_at_every_interval"),
        "L670": _by("protocol::heartbeats_end_with_the_connection_and_begin_again_with_the_next"),
        "L687": _by("protocol::a_join_before_the_connection_is_sent_when_it_opens"),
        "L700": _by(
            "protocol::a_join_whose_connection_does_not_open_is_sent_once_when_the_next_one_does"
        ),
        "L728": _by("protocol::a_join_before_the_connection_is_sent_when_it_opens"),
        "L738": _by("protocol::an_open_connection_starts_the_table_again"),
        "L744": _by("protocol::an_open_connection_gives_an_event_with_its_time"),
        "L753": _by("protocol::a_heartbeat_without_an_answer_ends_the_connection"),
        "L788": _by("protocol::a_final_close_code_ends_the_socket"),
        "L795": _by("protocol::a_lost_connection_is_opened_again_whatever_its_code"),
        "L802": _by("protocol::disconnecting_closes_the_connection_and_every_channel_for_good"),
        "L808": _by("protocol::a_lost_connection_is_opened_again_whatever_its_code"),
        "L815": ENDS,
        "L826": _by("protocol::a_lost_connection_is_opened_again_whatever_its_code"),
        "L833": _by(
            "protocol::a_lost_connection_takes_every_channel_and_the_next_one_rejoins_them_at_once"
        ),
        "L845": _by(
            "protocol::a_lost_connection_takes_every_channel_and_the_next_one_rejoins_them_at_once"
        ),
        "L857": _by("protocol::a_leave_is_over_when_the_connection_is"),
        "L867": _by("protocol::disconnecting_closes_the_connection_and_every_channel_for_good"),
        "L878": _by("protocol::disconnecting_closes_the_connection_and_every_channel_for_good"),
        "L908": _by("protocol::a_failed_attempt_is_repeated_after_the_waits_of_the_table"),
        "L915": _by(
            "protocol::a_join_whose_connection_does_not_open_is_sent_once_when_the_next_one_does"
        ),
        "L928": _by(
            "protocol::a_join_whose_connection_does_not_open_is_sent_once_when_the_next_one_does"
        ),
        "L940": _by(
            "protocol::a_lost_connection_takes_every_channel_and_the_next_one_rejoins_them_at_once"
        ),
        "L964": _by("protocol::a_leave_is_over_when_the_connection_is"),
        "L974": _by("protocol::a_failure_before_the_first_open_falls_back_at_once"),
        "L1013": _by("protocol::a_message_of_the_topic_arrives"),
        "L1030": _by("socket::messages_arrive_in_order"),
        "L1052": _by("protocol::a_ping_measures_the_time_to_its_answer"),
        "L1070": _by("protocol::there_is_no_ping_without_a_connection"),
        "L1080": _by("wire::the_server_reads_the_text_that_the_client_writes"),
        "L1089": V2,
        "L1098": _by("longpoll::a_batch_has_one_message_a_line_and_bytes_in_base64"),
        "L1108": _by("wire::the_client_reads_what_the_server_writes"),
        "L1117": V2,
        "L1126": _by(
            "longpoll::the_messages_of_a_poll_come_one_after_another_and_the_next_poll_follows"
        ),
    },
    "longpoll_test": {
        "L69": _by("longpoll::the_auth_token_is_in_a_header_of_each_request"),
        "L82": _by("longpoll::the_auth_token_is_in_a_header_of_each_request"),
        "L103": _by("longpoll::the_auth_token_is_in_a_header_of_each_request"),
        "L120": _by("longpoll::the_first_request_has_no_token_and_the_others_have_it_in_a_header"),
        "L142": _by("longpoll::the_first_request_has_no_token_and_the_others_have_it_in_a_header"),
        "L160": _by("longpoll::a_session_that_the_server_has_forgotten_ends"),
        "L183": _by("longpoll::a_batch_has_one_message_a_line_and_bytes_in_base64"),
        "L202": _by("connection::what_waits_while_a_batch_is_written_is_the_next_batch"),
        "L256": _by("longpoll::150_messages_are_two_requests_in_order"),
        "L297": _by("longpoll::a_post_without_an_answer_ends_the_session"),
    },
    "presence_test": {
        "L53": _by("presence_fold::the_first_state_is_all_joins"),
        "L64": _by("presence_fold::keys_that_the_new_state_lacks_leave"),
        "L88": _by("presence_fold::only_the_new_metas_of_a_known_key_join"),
        "L109": _by("presence_fold::the_first_state_is_all_joins"),
        "L115": _by("presence_fold::a_key_without_metas_is_gone_and_others_stay"),
        "L125": _by("presence_fold::a_key_without_metas_is_gone_and_others_stay"),
        "L171": _by("presence::the_state_follows_the_messages_of_the_server"),
        "L180": _by("presence::the_state_follows_the_messages_of_the_server"),
        "L190": _by("presence::the_state_follows_the_messages_of_the_server"),
        "L203": _by("presence_fold::a_diff_before_the_state_waits_for_it"),
        "L246": _by("presence::the_events_can_have_other_names"),
        "L261": _by("presence_fold::an_update_is_a_join_and_a_leave_without_a_gap"),
    },
    "serializer_test": {
        "L17": _by("wire::the_server_reads_the_text_that_the_client_writes"),
        "L24": _by("wire::the_client_reads_what_the_server_writes"),
        "L33": _by("wire::the_server_reads_the_binary_message_that_the_client_writes"),
        "L43": _by("wire::the_server_reads_the_binary_message_that_the_client_writes"),
        "L53": _by("wire::the_client_reads_what_the_server_writes"),
        "L68": _by("wire::the_client_reads_what_the_server_writes"),
        "L84": _by("wire::the_server_reads_the_binary_message_that_the_client_writes"),
        "L118": _by("wire::sizes_are_bytes_and_not_characters"),
        "L126": _by("wire::the_client_reads_what_the_server_writes"),
    },
}
