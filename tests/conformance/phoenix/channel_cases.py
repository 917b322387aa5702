"""The cases of Phoenix's own tests about channels, and the kit for testing them, and which test covers each."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"channel_test": 6, "test/channel_test": 41}


def _by(test: str) -> Covered:
    return Covered(f"../../{test}")


_A_BROADCAST_REACHES_EVERYBODY = _by(
    "contracts/test_channels_over_transports.py::test_a_broadcast_reaches_all_clients_and_broadcast_from_all_except_the_sender"
)
_PUSHES_BROADCASTS_AND_THE = _by(
    "channels/connection/test_channel_server.py::test_pushes_broadcasts_and_the_reply_of_a_handler_keep_their_order"
)
_A_SOCKET_WITHOUT_CONNECT = _by(
    "channels/testing/test_channel_test.py::test_a_socket_without_connect_has_the_assigns_that_it_is_given"
)
_CONNECT_ASKS_THE_SOCKET = _by(
    "channels/testing/test_channel_test.py::test_connect_calls_the_socket_and_its_assigns_reach_the_channel"
)
_ANY_TASK_MAY_CONNECT = _by(
    "channels/testing/test_channel_test.py::test_any_task_may_connect_join_push_and_assert"
)
_AN_ASSERTION_MAY_BE = _by(
    "channels/testing/test_channel_test.py::test_an_assertion_may_be_a_function"
)
_PUSHES_ARE_ANSWERED_AND = _by(
    "channels/testing/test_channel_test.py::test_pushes_are_answered_and_pushed"
)
_VALUES_COME_BACK_AS = _by("channels/serializers/test_v2.py::test_values_survive_a_round_trip")
_EVERY_CALLBACK_MAY_STOP = _by(
    "channels/connection/test_channel_server.py::test_every_callback_may_stop_the_channel"
)
_THE_CHANNELS_PROCESS_CAN = _by(
    "channels/testing/test_channel_test.py::test_the_channels_process_can_be_called_cast_and_sent_to"
)
_CLOSE_WAITS_FOR_THE = _by(
    "channels/testing/test_channel_test.py::test_close_waits_for_the_end_and_kills_at_last"
)
_CODE_IS_NOT_CHANGED = NotPortable("code is not changed while it runs")

CASES: Cases = {
    "channel_test": {
        "L12 broadcasts from self": _A_BROADCAST_REACHES_EVERYBODY,
        "L55 broadcasts from other": _A_BROADCAST_REACHES_EVERYBODY,
        "L98 pushing to transport": _PUSHES_BROADCASTS_AND_THE,
        "L115 replying to transport": _PUSHES_BROADCASTS_AND_THE,
        "L135 replying just status to transport": _by(
            "channels/test_channel.py::test_a_reply_is_ok_and_empty_unless_it_says_otherwise"
        ),
        "L155 socket_ref raises ArgumentError when socket is not joined or has no ref": _by(
            "channels/test_channel.py::test_socket_ref_raises_outside_the_handler_of_a_push"
        ),
    },
    "test/channel_test": {
        "L189 socket/1": _A_SOCKET_WITHOUT_CONNECT,
        "L198 socket/3": _A_SOCKET_WITHOUT_CONNECT,
        "L209 socket/4": _A_SOCKET_WITHOUT_CONNECT,
        "L229 join/3 with success": _CONNECT_ASKS_THE_SOCKET,
        "L250 join/3 from another process": _ANY_TASK_MAY_CONNECT,
        "L262 join/3 with error reply": _by(
            "channels/testing/test_channel_test.py::test_a_refused_join_is_an_answer_and_fails_subscribe_and_join"
        ),
        "L267 join/3 with crash": _by(
            "channels/testing/test_channel_test.py::test_a_join_that_crashes_is_answered_as_clients_see_it"
        ),
        "L275 assert_push with guards": _AN_ASSERTION_MAY_BE,
        "L281 pushes and receives pushed messages": _PUSHES_ARE_ANSWERED_AND,
        "L288 pushes and receives replies": _PUSHES_ARE_ANSWERED_AND,
        "L299 works with list data structures": _PUSHES_ARE_ANSWERED_AND,
        "L305 receives async replies": _by(
            "channels/test_channel.py::test_a_push_may_be_answered_later_and_more_than_once"
        ),
        "L312 crashed channel propagates exit": _by(
            "channels/testing/test_channel_test.py::test_a_client_sees_a_crash_and_a_monitor_sees_its_reason"
        ),
        "L322 pushes on stop": _by(
            "channels/connection/test_channel_server.py::test_a_clean_stop_sends_the_reply_then_phx_close_then_pushes_of_terminate"
        ),
        "L335 pushes and receives replies on stop": _by(
            "channels/testing/test_channel_test.py::test_a_stop_with_a_reply"
        ),
        "L353 assert_broadcast with guards": _AN_ASSERTION_MAY_BE,
        "L359 pushes and broadcast messages": _by(
            "channels/testing/test_channel_test.py::test_broadcasts_reach_the_test_and_the_clients"
        ),
        "L366 connects and joins topics directly": _CONNECT_ASKS_THE_SOCKET,
        "L380 connects and joins topics directly, from another process": _ANY_TASK_MAY_CONNECT,
        "L395 pushes atom parameter keys as strings": _VALUES_COME_BACK_AS,
        "L402 assert_reply with guards": _AN_ASSERTION_MAY_BE,
        "L409 pushes structs without modifying them": _by(
            "channels/serializers/test_v2.py::test_records_are_objects"
        ),
        "L417 connects with atom parameter keys as strings": _VALUES_COME_BACK_AS,
        "L423 push broadcasts by default": _by(
            "channels/testing/test_channel_test.py::test_broadcast_from_reaches_the_channel_and_its_client_but_not_the_test"
        ),
        "L429 push broadcasts by default, outside of test process": _ANY_TASK_MAY_CONNECT,
        "L448 handles broadcasts and stops": _EVERY_CALLBACK_MAY_STOP,
        "L459 handles messages and stops": _EVERY_CALLBACK_MAY_STOP,
        "L468 handles messages and pushes": _THE_CHANNELS_PROCESS_CAN,
        "L474 handles messages and broadcasts": _THE_CHANNELS_PROCESS_CAN,
        "L482 handles calls": _THE_CHANNELS_PROCESS_CAN,
        "L487 handles casts": _THE_CHANNELS_PROCESS_CAN,
        "L496 leaves the channel": _by(
            "channels/testing/test_channel_test.py::test_leaving_is_answered_and_closes"
        ),
        "L510 closes the channel": _CLOSE_WAITS_FOR_THE,
        "L523 kills the channel when we reach timeout on close": _CLOSE_WAITS_FOR_THE,
        "L536 code_change/3 proxies to channel": _CODE_IS_NOT_CHANGED,
        "L543 code_change/3 is overridable": _CODE_IS_NOT_CHANGED,
        "L550 external subscriptions": _by(
            "channels/testing/test_channel_test.py::test_a_channel_receives_broadcasts_of_other_subscriptions"
        ),
        "L556 warns on unhandled handle_info/2 messages": _by(
            "channels/test_logger.py::test_an_unhandled_message_logs_a_warning"
        ),
        "L566 subscribes to socket.id and receives disconnects": _by(
            "channels/testing/test_channel_test.py::test_a_disconnect_of_a_user_closes_with_1001"
        ),
        "L572 supports static assigns in user socket channel definition": _A_SOCKET_WITHOUT_CONNECT,
        "L578 converts payload on join to string keyed": _VALUES_COME_BACK_AS,
    },
}
