import pytest

from tests.benchmarks.channels.dialects import DIALECTS, Refused

phoenix, socketio = DIALECTS["phoenix"], DIALECTS["socketio"]


@pytest.mark.parametrize(
    "text",
    [
        b'["1","12345678","room:a","phx_reply",{"status":"ok","response":{"x":"1"}}]',
        b'["1", "12345678", "room:a", "phx_reply", {"response": {}, "status": "ok"}]',
    ],
)
def test_a_reply_of_phoenix_is_recognised_with_and_without_spaces(text: bytes) -> None:
    assert phoenix.reply_number(text) == 12345678


@pytest.mark.parametrize(
    "text",
    [b'[null,null,"room:a","new_msg",{"x":"a"}]', b'["1","j","room:a","phx_reply",{}]', b"{}"],
)
def test_other_messages_of_phoenix_answer_no_push(text: bytes) -> None:
    assert phoenix.reply_number(text) == -1


def test_a_client_of_phoenix_has_joined_with_the_reply_to_its_join() -> None:
    assert phoenix.greeting("room:a", "1") == ['["1","1","room:a","phx_join",{}]']
    other = b'["1","1","room:b","phx_reply",{"status":"ok","response":{}}]'
    assert phoenix.joining(other, "room:a", "1") == ([], False)
    own = b'["1","1","room:a","phx_reply",{"status":"ok","response":{}}]'
    assert phoenix.joining(own, "room:a", "1") == ([], True)


def test_a_refused_join_is_an_error() -> None:
    answer = b'["1","1","room:a","phx_reply",{"status":"error","response":{}}]'
    with pytest.raises(Refused, match="room:a"):
        phoenix.joining(answer, "room:a", "1")


def test_a_client_of_socketio_opens_the_namespace_and_then_joins() -> None:
    assert socketio.greeting("room:a", "1") == []
    assert socketio.joining(b'0{"sid":"x"}', "room:a", "1") == (["40"], False)
    joins, has_joined = socketio.joining(b'40{"sid":"x"}', "room:a", "1")
    assert (joins, has_joined) == (['421["join",{"room": "room:a"}]'], False)
    assert socketio.joining(b"431[{}]", "room:a", "1") == ([], True)


def test_an_acknowledgement_of_socketio_has_the_number_of_its_push() -> None:
    assert socketio.reply_number(b'4312345678[{"x":"1"}]') == 12345678
    assert socketio.reply_number(b'42["new_msg",{}]') == -1


def test_only_a_ping_of_socketio_asks_for_an_answer() -> None:
    assert socketio.keep_alive(b"2") == "3"
    assert socketio.keep_alive(b'42["new_msg",{}]') is None
    assert phoenix.keep_alive(b"2") is None
