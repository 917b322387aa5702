"""Long polling without I/O: the form of answers, and the parsing of batches."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.messages import BinaryFrame
from channels.protocol.longpoll import (
    MAX_BASE64,
    MAX_LINES,
    NDJSON,
    PIECE,
    PIECES,
    Answer,
    Arriving,
    Delivered,
    ForwardedPoll,
    ForwardedPost,
    Found,
    Line,
    More,
    NotDelivered,
    NotFound,
    Piece,
    PollAnswer,
    Relayed,
    messages_answer,
    messages_of,
    plain_answer,
    preflight_answer,
    read_relayed,
    relayed_answer,
    status_answer,
    token_of,
)

JSON_HEADERS = (
    ("access-control-allow-origin", "*"),
    ("content-type", "application/json; charset=utf-8"),
    ("cache-control", "no-store"),
)


def test_a_status_alone_is_one_field() -> None:
    assert status_answer(408) == PollAnswer(
        status=200, headers=JSON_HEADERS, body=b'{"status":408}'
    )


def test_messages_are_strings_and_fields_come_in_the_order_of_phoenix() -> None:
    answer = messages_answer(200, "T.o-k_en", [b'["1",null,"\xc3\xa4"]', b"{}"])
    assert answer is not None
    assert (answer.status, answer.headers) == (200, JSON_HEADERS)
    expected = '{"messages":["[\\"1\\",null,\\"ä\\"]","{}"],"status":200,"token":"T.o-k_en"}'
    assert answer.body == expected.encode()


def test_nothing_but_what_json_needs_is_escaped() -> None:
    answer = messages_answer(200, "T", ['"\\/<é\u2028😀>\x7f'.encode()])
    assert answer is not None
    assert (
        answer.body == '{"messages":["\\"\\\\/<é\u2028😀>\x7f"],"status":200,"token":"T"}'.encode()
    )


def test_a_binary_message_has_no_form_unless_it_is_utf8_by_chance() -> None:
    assert messages_answer(200, "T", [b"{}", BinaryFrame(b"\x02\xff")]) is None
    by_chance = messages_answer(200, "T", [BinaryFrame(b"\x02\x01a\x7f")])
    assert by_chance is not None
    assert json.loads(by_chance.body)["messages"] == ["\x02\x01a\x7f"]


def test_plain_answers_and_preflights_let_every_page_read_them() -> None:
    assert plain_answer(400) == PollAnswer(
        status=400, headers=(("access-control-allow-origin", "*"),)
    )
    assert preflight_answer("content-type").headers == (
        ("access-control-allow-origin", "*"),
        ("access-control-allow-headers", "content-type"),
        ("access-control-allow-methods", "get, post, options"),
        ("access-control-max-age", "3600"),
    )


def test_the_token_is_that_of_the_header_or_else_a_parameter_that_is_text() -> None:
    assert token_of("h", {"token": "p"}) == "h"
    assert token_of("", {"token": "p"}) == ""
    assert token_of(None, {"token": "p"}) == "p"
    assert token_of(None, {"token": ["p"]}) is None
    assert token_of(None, {}) is None


@pytest.mark.parametrize("kind", [None, "application/json", "application/x-ndjson;charset=utf-8"])
@pytest.mark.parametrize("body", [b"", b'["1"]\n["2"]', b"AAEC"])
def test_a_body_of_another_type_is_one_text(body: bytes, kind: str | None) -> None:
    assert list(messages_of(body, kind)) == [Line(body, binary=False)]


def test_a_batch_is_a_message_on_each_line_whichever_way_lines_end() -> None:
    assert list(messages_of(b'["1"]\r\n["2"]\n["3"]\r', NDJSON)) == [
        Line(b'["1"]', binary=False),
        Line(b'["2"]', binary=False),
        Line(b'["3"]\r', binary=False),
    ]


def test_what_does_not_begin_like_an_array_is_base64() -> None:
    assert list(messages_of(b"AAEC\n/+8=\n", NDJSON)) == [
        Line(b"\x00\x01\x02", binary=True),
        Line(b"\xff\xef", binary=True),
        Line(b"", binary=True),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'"text"',
        b"AAE",
        b"AAE==",
        b"AA EC",
        b" AAEC",
        b"_-8=",
        b"AAEC=",
        b"AAEC====",
        b"A===",
        b"AA=C",
        b"\xff",
    ],
)
def test_an_invalid_line_ends_its_batch(line: bytes) -> None:
    found = list(messages_of(b'["1"]\n' + line + b'\n["2"]', NDJSON))
    assert found == [Line(b'["1"]', binary=False), plain_answer(500)]


def test_base64_that_is_too_long_is_400() -> None:
    assert list(messages_of(b"A" * (MAX_BASE64 + 4), NDJSON)) == [plain_answer(400)]
    (line,) = messages_of(b"A" * MAX_BASE64, NDJSON)
    assert isinstance(line, Line)


def test_lines_beyond_the_bound_are_not_looked_at() -> None:
    found = list(messages_of(b'["1"]\n' * MAX_LINES + b"!!!\n!!!", NDJSON))
    assert found == [Line(b'["1"]', binary=False)] * MAX_LINES


@given(st.lists(st.one_of(st.binary(max_size=50), st.text(max_size=20)), min_size=1, max_size=20))
def test_split_frames_inverts_client_frames(messages: list[bytes | str]) -> None:
    texts = [json.dumps([message]) if isinstance(message, str) else message for message in messages]
    lines = [text.encode() if isinstance(text, str) else base64.b64encode(text) for text in texts]
    assert list(messages_of(b"\n".join(lines), NDJSON)) == [
        Line(text.encode() if isinstance(text, str) else text, binary=isinstance(text, bytes))
        for text in texts
    ]


@given(st.binary(max_size=300), st.sampled_from([NDJSON, None]))
def test_any_bytes_as_a_body_are_parsed_without_an_error(body: bytes, kind: str | None) -> None:
    *before, last = messages_of(body, kind)
    assert all(isinstance(line, Line) for line in before)
    assert isinstance(last, Line) or last == plain_answer(500)


@given(st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"[", b"AAEC"]), max_size=12).map(b"".join))
def test_lines_end_with_a_newline_with_or_without_a_return(body: bytes) -> None:
    # All lines are texts here, so that each of them is seen.
    marked = b"[" + body.replace(b"\n", b"\n[")
    wanted = [Line(each, binary=False) for each in re.split(rb"\r?\n", marked)]
    assert list(messages_of(marked, NDJSON)) == wanted


@given(st.text("Az0+/=-", max_size=8).map(str.encode))
def test_only_base64_with_its_padding_at_the_end_is_taken(text: bytes) -> None:
    is_base64 = len(text) % 4 == 0 and re.fullmatch(rb"[A-Za-z0-9+/]*={0,2}", text) is not None
    wanted = Line(base64.b64decode(text), binary=True) if is_base64 else plain_answer(500)
    assert list(messages_of(text, NDJSON)) == [wanted]


# Between nodes

RELAYED: list[Relayed] = [
    ForwardedPoll(id="r.1", node="b", token="T", find=2.0, window=10.0),
    ForwardedPost(
        id="r.1",
        node="b",
        token="T",
        find=2.0,
        window=10.0,
        content_type=None,
        size=3,
        data=b"\xff\x00a",
    ),
    Found("r.1"),
    NotFound("r.1"),
    Answer("r.1", 200, 2, b"{}", confirm=True),
    More("r.1", 0),
    Piece("r.1", 3, b"abc"),
    Delivered("r.1"),
    NotDelivered("r.1"),
]


@pytest.mark.parametrize("message", RELAYED, ids=lambda message: type(message).__name__)
def test_a_message_between_nodes_is_read_from_its_json(message: Relayed) -> None:
    assert read_relayed(json.loads(msgspec.json.encode(message))) == message


GOOD = {"kind": "poll", "id": "1", "node": "b", "token": "T", "find": 2, "window": 10}


@pytest.mark.parametrize(
    "message",
    [
        None,
        7,
        [],
        {},
        {**GOOD, "kind": "other"},
        {**GOOD, "window": 0},
        {**GOOD, "find": -1},
        {**GOOD, "id": 1},
        {"kind": "piece", "id": "1", "offset": -1, "data": ""},
        {"kind": "piece", "id": "1", "offset": 0, "data": "!"},
        {"kind": "answer", "id": "1", "status": 7, "size": 0, "data": ""},
    ],
)
def test_a_malformed_message_between_nodes_is_none(message: Any) -> None:
    assert read_relayed(GOOD) is not None
    assert read_relayed(message) is None


def test_the_answer_of_another_node_has_the_headers_of_one_of_this_node() -> None:
    for answer in (status_answer(410), plain_answer(500)):
        assert relayed_answer(answer.status, answer.body) == answer


def test_a_short_body_is_whole_with_its_first_piece() -> None:
    body = Arriving(3, b"abc")
    assert body.is_whole
    assert (body.wants(), body.whole()) == (None, b"abc")


def test_the_next_pieces_are_asked_for_when_all_earlier_ones_are_here() -> None:
    whole = bytes(range(256)) * (3 * PIECES * PIECE // 256)
    body = Arriving(len(whole), whole[:PIECE])
    asked, offset = [], PIECE
    while not body.is_whole:
        asked.append(body.wants())
        for _ in range(min(PIECES, (len(whole) - offset) // PIECE)):
            assert body.wants() is None
            assert body.add(offset, whole[offset : offset + PIECE])
            offset += PIECE
    assert asked == [PIECE, (1 + PIECES) * PIECE, (1 + 2 * PIECES) * PIECE]
    assert (body.wants(), body.whole()) == (None, whole)


@pytest.mark.parametrize(("offset", "data"), [(2, b"c"), (4, b"e"), (3, b""), (3, b"defg")])
def test_a_piece_that_does_not_follow_or_is_too_long_is_refused(offset: int, data: bytes) -> None:
    body = Arriving(6, b"abc")
    assert not body.add(offset, data)
    assert body.add(3, b"def")
    assert body.whole() == b"abcdef"
