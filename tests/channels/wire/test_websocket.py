"""WebSocket frames: the same as the library reads, and Phoenix's answers to a close."""

from __future__ import annotations

import gc
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from channels.messages import BinaryFrame
from channels.wire.websocket import (
    SHORT_MESSAGE,
    ControlReply,
    PeerClosed,
    WebSocketEvent,
    WebSocketProtocol,
    close_frame,
    frame,
)
from tests.channels.transports.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_close,
    client_frame,
)

LIMIT = 200
Outcome: TypeAlias = list[tuple[str, object]]


class Library(ServerProtocol):
    """The library, but for the frames that Phoenix reads in another way."""

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            code = int.from_bytes(frame.data[:2], "big")
            try:
                bytes(frame.data[2:]).decode()
            except UnicodeDecodeError:
                raise ProtocolError("the reason is not UTF-8") from None
            if 1012 <= code <= 1014:
                raise ProtocolError("a code that servers send")
            if code >= 5000:
                frame = Frame(Opcode.CLOSE, (4999).to_bytes(2, "big"))
            self.current_size = None
        is_empty = frame.opcode is Opcode.CONT and not (frame.fin or frame.data)
        if is_empty and self.current_size is not None:
            raise EmptyContinuation
        super().recv_frame(frame)


class EmptyContinuation(ProtocolError):
    """A continuation without a byte that is not the last one."""


def read_as_library(data: bytes) -> Outcome:
    """Read a whole stream with the library alone; messages put together in the plainest way."""
    library = Library(state=State.OPEN, max_size=LIMIT)
    library.receive_data(data)
    outcome: Outcome = []
    parts = b""
    kind = Opcode.TEXT
    for event in library.events_received():
        assert isinstance(event, Frame)
        if event.opcode is Opcode.PING:
            outcome.append(("ping", bytes(event.data)))
        elif event.opcode is Opcode.CLOSE:
            assert library.close_rcvd is not None
            outcome.append(("closed by peer", library.close_rcvd.code))
        elif event.opcode is not Opcode.PONG:
            if event.opcode is not Opcode.CONT:
                kind, parts = event.opcode, b""
            parts += bytes(event.data)
            if event.fin and kind is Opcode.BINARY:
                outcome.append(("binary", parts))
            elif event.fin:
                try:
                    parts.decode()
                except UnicodeDecodeError:
                    # The library leaves this check to others: from here on it has read too much.
                    outcome.append(("broken", 1007))
                    return outcome
                outcome.append(("text", parts))
    if library.parser_exc is not None:
        assert library.close_sent is not None
        empty = isinstance(library.parser_exc, EmptyContinuation)
        outcome.append(("broken", 1008 if empty else library.close_sent.code))
    return outcome


def read_as_ours(pieces: list[bytes]) -> Outcome:
    protocol = WebSocketProtocol(max_message_size=LIMIT)
    return [told(event) for piece in pieces for event in protocol.receive(piece)]


def told(event: WebSocketEvent) -> tuple[str, object]:
    if isinstance(event, ControlReply):
        assert event.frame[0] == 0x80 | PONG
        return "ping", event.frame[2:]
    if isinstance(event, PeerClosed):
        return ("closed by peer" if event.by_peer else "broken"), min(event.code, 4999)
    return ("binary" if type(event) is BinaryFrame else "text"), bytes(event)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


payloads = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8).map(str.encode),
    # around every form of a length, and around the limit
    st.sampled_from([124, 125, 126, 127, LIMIT - 1, LIMIT, LIMIT + 1, 65535, 65536]).map(
        lambda size: b"x" * size
    ),
)
# Valid frames of a client, so that most examples do not fail at their first frame.
proper_frames = st.one_of(
    st.builds(
        client_frame,
        st.sampled_from([TEXT, BINARY, CONTINUATION]),
        st.sampled_from([b"", b"a", "é".encode(), b"x" * 90, b"x" * 150]),
        fin=st.booleans(),
    ),
    st.builds(client_frame, st.sampled_from([PING, PONG]), st.binary(max_size=3)),
)
frames = st.one_of(
    st.builds(client_frame, st.sampled_from([TEXT, BINARY]), payloads),
    st.builds(
        client_frame,
        st.sampled_from([TEXT, BINARY, CONTINUATION]),
        payloads,
        fin=st.booleans(),
    ),
    st.builds(client_frame, st.sampled_from([PING, PONG]), payloads),
    st.builds(client_close, st.one_of(st.none(), st.integers(0, 5000)), st.binary(max_size=4)),
    st.builds(
        client_frame,
        st.integers(0, 15),
        payloads,
        fin=st.booleans(),
        rsv=st.integers(0, 7),
        masked=st.booleans(),
    ),
    st.binary(max_size=20),
)


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 70_000), max_size=8))
def test_any_bytes_in_any_pieces_give_the_events_of_the_library(
    sent: list[bytes], places: list[int]
) -> None:
    data = b"".join(sent)
    assert read_as_ours(cut(data, places)) == read_as_library(data)


@given(st.lists(proper_frames, max_size=12), st.lists(st.integers(0, 2_000), max_size=8))
def test_fragmented_messages_give_the_events_of_the_library(
    sent: list[bytes], places: list[int]
) -> None:
    data = b"".join(sent)
    assert read_as_ours(cut(data, places)) == read_as_library(data)


@given(
    st.lists(st.builds(client_frame, st.sampled_from([TEXT, BINARY]), payloads), max_size=4),
)
def test_single_bytes_give_the_same_events(sent: list[bytes]) -> None:
    data = b"".join(sent)[:1000]
    assert read_as_ours([data[i : i + 1] for i in range(len(data))]) == read_as_library(data)


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_arbitrary_bytes_do_not_make_it_raise(pieces: list[bytes]) -> None:
    protocol = WebSocketProtocol(max_message_size=LIMIT)
    closed = False
    for piece in pieces:
        events = protocol.receive(piece)
        assert not (closed and events), "something came after the last event"
        closed = closed or any(isinstance(event, PeerClosed) for event in events)
        assert all(not isinstance(event, PeerClosed) for event in events[:-1])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
@pytest.mark.parametrize(("kind", "opcode"), [(bytes, Opcode.TEXT), (BinaryFrame, Opcode.BINARY)])
def test_a_client_library_reads_the_built_frames(
    size: int, kind: type[bytes], opcode: Opcode
) -> None:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(frame(kind(b"x" * size)))
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.fin, len(event.data)) == (opcode, True, size)


def test_frames_of_all_messages_are_plain_bytes() -> None:
    assert type(frame(b"a")) is bytes
    assert type(frame(BinaryFrame(b"a"))) is bytes


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999, 5000, 65535, None])
def test_a_client_that_closes_is_answered_with_1000(code: int | None) -> None:
    (event,) = WebSocketProtocol().receive(client_close(code))
    assert event == PeerClosed(
        code=1005 if code is None else code, reason="", by_peer=True, frame=close_frame(1000)
    )


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1012, 1014, 1016, 2999])
def test_a_client_that_closes_with_an_invalid_code_gets_1002(code: int) -> None:
    (event,) = WebSocketProtocol().receive(client_close(code))
    assert isinstance(event, PeerClosed)
    assert (event.code, event.by_peer) == (1002, False)
    assert event.frame[2:4] == (1002).to_bytes(2, "big")


def test_the_reason_of_a_client_is_kept() -> None:
    (event,) = WebSocketProtocol().receive(client_close(1001, "für".encode()))
    assert isinstance(event, PeerClosed)
    assert event.reason == "für"


def test_text_that_is_not_utf8_is_answered_with_1007_and_no_reason() -> None:
    for data in (
        client_frame(TEXT, b'["\xff"]'),
        client_frame(TEXT, b'["\xc3', fin=False) + client_frame(CONTINUATION, b'"]'),
    ):
        (event,) = WebSocketProtocol().receive(data)
        assert event == PeerClosed(code=1007, reason="", by_peer=False, frame=close_frame(1007))


def test_fragments_can_split_a_character() -> None:
    data = client_frame(TEXT, b"\xc3", fin=False) + client_frame(CONTINUATION, b"\xa9")
    assert WebSocketProtocol().receive(data) == ["é".encode()]


def test_a_fragment_of_one_connection_does_not_reach_another() -> None:
    one, other = WebSocketProtocol(), WebSocketProtocol()
    assert one.receive(client_frame(TEXT, b"a", fin=False)) == []
    assert other.receive(client_frame(TEXT, b"b")) == [b"b"]
    assert other.receive(client_frame(TEXT, b"c", fin=False)) == []
    assert one.receive(client_frame(CONTINUATION, b"d")) == [b"ad"]
    assert other.receive(client_frame(CONTINUATION, b"e")) == [b"ce"]


def test_a_message_that_is_too_big_is_refused_before_it_is_complete() -> None:
    protocol = WebSocketProtocol(max_message_size=LIMIT)
    length = client_frame(TEXT, b"x" * (LIMIT + 1))[:4]
    assert protocol.receive(length[:2]) == []
    (event,) = protocol.receive(length[2:])
    assert isinstance(event, PeerClosed)
    assert event.code == 1009


def test_fragments_are_bounded_together_as_soon_as_the_header_shows_it() -> None:
    protocol = WebSocketProtocol(max_message_size=LIMIT)
    assert protocol.receive(client_frame(TEXT, b"x" * LIMIT, fin=False)) == []
    (event,) = protocol.receive(client_frame(CONTINUATION, b"x", fin=False)[:6])
    assert isinstance(event, PeerClosed)
    assert event.code == 1009


def test_the_next_message_has_the_whole_bound_again() -> None:
    protocol = WebSocketProtocol(max_message_size=LIMIT)
    half = b"x" * (LIMIT // 2)
    for _ in range(3):
        protocol.receive(client_frame(TEXT, half, fin=False))
        assert protocol.receive(client_frame(CONTINUATION, half)) == [half + half]
    whole = client_frame(TEXT, b"x" * LIMIT)
    assert protocol.receive(whole[:50]) == []
    assert protocol.receive(whole[50:]) == [b"x" * LIMIT]


def test_messages_before_a_violation_are_still_delivered() -> None:
    data = client_frame(TEXT, b"a") + client_frame(PING, b"hi") + client_frame(TEXT, masked=False)
    first, second, third = WebSocketProtocol().receive(data + b"more")
    assert first == b"a"
    assert second == ControlReply(b"\x8a\x02hi")
    assert isinstance(third, PeerClosed)
    assert third.code == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_in_the_middle_of_another_is_a_protocol_error(opcode: int) -> None:
    data = client_frame(TEXT, b"a", fin=False) + client_frame(opcode, b"b")
    (event,) = WebSocketProtocol().receive(data)
    assert isinstance(event, PeerClosed)
    assert event.code == 1002


def test_pings_between_fragments_are_answered_in_their_place() -> None:
    data = (
        client_frame(TEXT, b"a", fin=False)
        + client_frame(PING, b"p")
        + client_frame(CONTINUATION, b"b")
    )
    assert WebSocketProtocol().receive(data) == [ControlReply(b"\x8a\x01p"), b"ab"]


@pytest.mark.parametrize("kind", [TEXT, BINARY])
def test_a_close_in_the_middle_of_a_fragmented_message_is_a_close(kind: int) -> None:
    data = client_frame(kind, b"a", fin=False) + client_frame(CONTINUATION, b"b", fin=False)
    (event,) = WebSocketProtocol().receive(data + client_close(1001))
    assert event == PeerClosed(code=1001, reason="", by_peer=True, frame=close_frame(1000))


@pytest.mark.parametrize("payload", [b"\x03", (1000).to_bytes(2, "big") + b"\xff"])
def test_a_close_frame_that_is_malformed_is_a_protocol_error(payload: bytes) -> None:
    (event,) = WebSocketProtocol().receive(client_frame(CLOSE, payload))
    assert isinstance(event, PeerClosed)
    assert (event.code, event.by_peer) == (1002, False)


def test_an_empty_unfinished_continuation_closes_with_1008() -> None:
    begun = client_frame(TEXT, b"", fin=False)
    protocol = WebSocketProtocol()
    assert protocol.receive(begun + client_frame(CONTINUATION, b"")) == [b""]
    (event,) = protocol.receive(begun + client_frame(CONTINUATION, b"", fin=False))
    assert event == PeerClosed(
        code=1008, reason="an empty continuation", by_peer=False, frame=close_frame(1008)
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x83\x80mask", 1002),  # a reserved opcode
        (client_frame(CONTINUATION, b"x"), 1002),
        (client_frame(TEXT, b"x" * 20), 1009),
        (client_frame(TEXT, b"", fin=False) + client_frame(CONTINUATION, b"", fin=False), 1008),
    ],
)
def test_the_close_frame_after_a_violation_has_no_text(data: bytes, code: int) -> None:
    # The server keeps the reason for its log, as Phoenix does.
    (event,) = WebSocketProtocol(max_message_size=10).receive(data)
    assert isinstance(event, PeerClosed)
    assert event.reason
    assert event.frame == close_frame(code)


def test_after_the_servers_close_frame_only_the_clients_counts() -> None:
    protocol = WebSocketProtocol()
    assert protocol.close(1012, "restart") == close_frame(1012, "restart")
    data = client_frame(TEXT, b"late") + client_frame(PING, b"late") + client_close(1012)
    assert protocol.receive(data) == [PeerClosed(code=1012, reason="", by_peer=True, frame=b"")]
    assert protocol.receive(client_frame(TEXT, b"later")) == []


def test_a_mistake_after_the_servers_close_frame_is_not_answered_with_another() -> None:
    protocol = WebSocketProtocol()
    protocol.close(1001)
    (event,) = protocol.receive(client_frame(TEXT, b"", masked=False))
    assert event == PeerClosed(code=1002, reason="incorrect masking", by_peer=False, frame=b"")


def test_close_reasons_are_cut_between_characters() -> None:
    built = close_frame(1011, "é" * 100)
    assert len(built) <= 2 + 125
    assert built[4:].decode() == "é" * 61
    assert WebSocketProtocol().receive(client_frame(CLOSE, built[2:])) != []


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2000, 5000])
def test_invalid_close_codes_raise_with_the_valid_ones(code: int) -> None:
    with pytest.raises(ValueError, match=f"{code} is not valid as a close code; use 1000"):
        close_frame(code)


@given(st.lists(proper_frames, max_size=20), st.integers(1, 5))
def test_a_limit_of_steps_does_not_change_the_events(sent: list[bytes], steps: int) -> None:
    data = b"".join(sent)
    protocol = WebSocketProtocol(max_message_size=LIMIT)
    outcome = []
    events = protocol.receive(data, steps)
    while events or protocol.has_more:
        assert len(events) <= steps
        outcome += [told(event) for event in events]
        events = protocol.receive(b"", steps) if protocol.has_more else []
    assert outcome == read_as_library(data)


def test_a_call_parses_at_most_the_given_number_of_frames() -> None:
    protocol = WebSocketProtocol()
    pong, ping = client_frame(PONG, b""), client_frame(PING, b"")
    assert protocol.receive(pong * 10 + ping, 10) == []
    assert protocol.has_more
    assert len(protocol.receive(b"", 10)) == 1
    assert not protocol.has_more


short_frames = st.builds(
    client_frame, st.sampled_from((TEXT, BINARY)), st.text(max_size=600).map(str.encode)
)


@given(
    st.lists(proper_frames, max_size=6),
    st.lists(short_frames | proper_frames, min_size=1, max_size=10),
    st.integers(0, 2_000),
)
def test_short_messages_are_those_that_receive_returns(
    earlier: list[bytes], sent: list[bytes], size: int
) -> None:
    protocol, twin = (WebSocketProtocol(max_message_size=1_000) for _ in range(2))
    for each in (protocol, twin):
        each.receive(b"".join(earlier)[:size], 5)
    data = b"".join(sent)
    messages = protocol.receive_short(data, 8)
    if messages is None:
        assert protocol.receive(data) == twin.receive(data)
    else:
        assert len(messages) == len(sent) <= 8
        assert max(map(len, messages)) <= SHORT_MESSAGE
        assert (protocol.held, protocol.has_more) == (0, False)
        expected = twin.receive(data)
        assert messages == expected
        assert list(map(type, messages)) == list(map(type, expected))


@pytest.mark.parametrize(
    "last", ["whole", "cut", "open", "unread", "long", "huge", "ping", "unmasked", "not_utf8"]
)
def test_only_whole_messages_are_short_messages(last: str) -> None:
    protocol = WebSocketProtocol()
    hi = client_frame(TEXT, b"hi")
    assert protocol.receive_short(hi * 2, 2) == [b"hi", b"hi"]
    assert protocol.receive_short(hi * 3, 2) is None
    if last == "cut":
        protocol.receive(hi[:1])
    elif last == "open":
        protocol.receive(client_frame(TEXT, b"", fin=False))
    elif last == "unread":
        protocol.receive(client_frame(PONG, b"") * 2, 1)
    data = {
        "long": client_frame(TEXT, b"x" * (SHORT_MESSAGE + 1)),
        # A length of 64 bits. Its first 16 bits would be the length of six zeros.
        "huge": bytes((0x81, 0xFF, 0, 6, *(0,) * 10)),
        "ping": client_frame(PING, b""),
        "unmasked": b"\x81\x02hi" + b"xxxx",
        "not_utf8": client_frame(TEXT, b"\xff"),
    }.get(last, b"")
    assert protocol.receive_short(hi + data, 8) == ([b"hi"] if last == "whole" else None)


@pytest.mark.parametrize("size", [0, 2, 124, 126, 512])
@pytest.mark.parametrize("code", [TEXT, BINARY])
def test_a_short_message_may_have_any_content(size: int, code: int) -> None:
    content = "é".encode() * (size // 2)
    found = WebSocketProtocol().receive_short(client_frame(code, content), 1)
    assert found == [content]
    assert type(found[0]) is (bytes if code == TEXT else BinaryFrame)


@pytest.mark.parametrize("size", [1, 125, 126, 512])
def test_a_short_text_is_utf_8(size: int) -> None:
    protocol = WebSocketProtocol()
    assert protocol.receive_short(client_frame(TEXT, b"\xff" * size), 1) is None
    assert protocol.receive_short(client_frame(BINARY, b"\xff" * size), 1) == [b"\xff" * size]


@pytest.mark.parametrize("end", ["close", "forget", "peer"])
def test_no_message_is_short_after_the_end(end: str) -> None:
    protocol = WebSocketProtocol()
    if end == "close":
        protocol.close(1000)
    elif end == "forget":
        protocol.forget()
    else:
        protocol.receive(client_frame(CLOSE, b""))
    assert protocol.receive_short(client_frame(TEXT, b"hi"), 8) is None


def test_no_message_beyond_the_limit_is_short() -> None:
    protocol = WebSocketProtocol(max_message_size=2)
    assert protocol.receive_short(client_frame(TEXT, b"hi"), 8) == [b"hi"]
    assert protocol.receive_short(client_frame(TEXT, b"hello"), 8) is None


def test_a_fragmented_message_that_is_too_big_closes_before_it_is_complete() -> None:
    protocol = WebSocketProtocol(max_message_size=LIMIT)
    assert protocol.receive(client_frame(TEXT, b"x" * 150, fin=False)) == []
    (event,) = protocol.receive(client_frame(CONTINUATION, b"x" * 100)[:8])
    assert isinstance(event, PeerClosed)
    assert event.code == 1009


@pytest.mark.parametrize("size", [126, 200, 65536])
def test_a_message_cut_at_the_size_of_a_short_one_is_read_whole(size: int) -> None:
    data = client_frame(TEXT, b"x" * size)
    for cut_at in (131, 132, 133):
        protocol = WebSocketProtocol()
        assert protocol.receive(data[:cut_at]) + protocol.receive(data[cut_at:]) == [b"x" * size]


def test_an_invalid_frame_leaves_no_reference_cycle() -> None:
    gc.collect()
    gc.disable()
    try:
        protocol = WebSocketProtocol()
        assert protocol.receive(client_frame(3, b"reserved"))
        del protocol
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [0, 125, 126])
@pytest.mark.parametrize("limit", [100, 124, 125, 126])
def test_the_size_limit_holds_for_short_frames(size: int, limit: int) -> None:
    protocol = WebSocketProtocol(max_message_size=limit)
    whole = client_frame(TEXT, b"x")
    events = protocol.receive(whole + client_frame(TEXT, b"y" * size) + whole)
    if size <= limit:
        assert events == [b"x", b"y" * size, b"x"]
    else:
        assert events[0] == b"x"
        assert [type(each).__name__ for each in events[1:]] == ["PeerClosed"]
        assert events[1].code == 1009  # type: ignore[union-attr]


def test_texts_count_as_steps() -> None:
    protocol = WebSocketProtocol()
    assert protocol.receive(client_frame(TEXT, b"x") * 5, 2) == [b"x"] * 2
    assert protocol.has_more
    assert protocol.receive(b"", 2) == [b"x"] * 2
    assert protocol.receive(b"") == [b"x"]


def test_a_closing_protocol_drops_texts() -> None:
    protocol = WebSocketProtocol()
    protocol.close(1001)
    assert protocol.receive(client_frame(TEXT, b"x") * 3) == []


def test_a_whole_text_inside_an_open_message_is_a_protocol_error() -> None:
    protocol = WebSocketProtocol()
    assert protocol.receive(client_frame(TEXT, b"a", fin=False)) == []
    (closed,) = protocol.receive(client_frame(TEXT, b"b"))
    assert closed.code == 1002  # type: ignore[union-attr]


def test_nothing_follows_the_end_of_a_connection() -> None:
    protocol = WebSocketProtocol()
    (closed,) = protocol.receive(client_frame(TEXT, b"\xff"))
    assert closed.code == 1007  # type: ignore[union-attr]
    assert protocol.receive(client_frame(TEXT, b"late") * 2) == []
