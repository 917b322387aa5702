"""Compression: the negotiation, the bound on inflated messages, and frames that a client can read."""

from __future__ import annotations

import contextlib
import logging
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from channels.messages import BinaryFrame
from channels.wire.deflate import (
    Deflate,
    InvalidOffer,
    agree_on_deflate,
)
from channels.wire.websocket import PeerClosed, WebSocketProtocol, deflated_frames, frame
from tests.channels.transports.frames import BINARY, CONTINUATION, PING, TEXT, client_frame

RSV1 = 4


def agreed(offer: str = "permessage-deflate") -> Deflate:
    deflate = agree_on_deflate(offer)
    assert deflate is not None
    return deflate


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", "permessage-deflate; server_no_context_takeover"),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover",
        ),
        (
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
            (
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; "
                "client_max_window_bits=9"
            ),
        ),
        (
            "x-unknown, permessage-deflate; server_max_window_bits=8, permessage-deflate",
            "permessage-deflate; server_no_context_takeover",
        ),
        ("permessage-deflate; nonsense, permessage-deflate; server_max_window_bits=99", None),
        ("x-webkit-deflate-frame", None),
        (None, None),
    ],
)
def test_the_first_supported_offer_is_accepted(offer: str | None, answer: str | None) -> None:
    deflate = agree_on_deflate(offer)
    assert (deflate.answer if deflate else None) == answer


def test_a_malformed_extension_header_raises_invalid_offer() -> None:
    with pytest.raises(InvalidOffer, match="'sec-websocket-extensions' header is malformed"):
        agree_on_deflate("permessage-deflate; =")


def client_of(offer: str) -> PerMessageDeflate:
    """The client's side of the negotiated compression for an offer."""
    deflate = agreed(offer)
    extension = deflate.extension
    return PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=extension.remote_no_context_takeover,
        remote_max_window_bits=deflate.window_bits,
        local_max_window_bits=max(9, extension.remote_max_window_bits),
    )


OFFERS = st.sampled_from(
    [
        "permessage-deflate",
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits",
    ]
)


def pack(client: PerMessageDeflate, data: bytes, parts: int) -> bytes:
    """One compressed message of a client, in so many fragments, with pings in between."""
    whole = bytes(client.encode(Frame(Opcode.TEXT, data)).data)
    size = max(1, -(-len(whole) // parts))
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)] or [b""]
    sent = []
    for number, piece in enumerate(pieces):
        opcode, rsv = (TEXT, RSV1) if number == 0 else (CONTINUATION, 0)
        sent.append(client_frame(opcode, piece, fin=number == len(pieces) - 1, rsv=rsv))
    return client_frame(PING).join(sent)


@given(
    OFFERS, st.lists(st.tuples(st.text(max_size=300), st.booleans(), st.integers(1, 4)), max_size=8)
)
def test_messages_are_read_compressed_or_not_whole_or_in_fragments(
    offer: str, messages: list[tuple[str, bool, int]]
) -> None:
    client = client_of(offer)
    protocol = WebSocketProtocol(extension=agreed(offer).extension)
    for text, is_packed, parts in messages:
        data = text.encode() * 3
        sent = pack(client, data, parts) if is_packed else client_frame(TEXT, data)
        short = protocol.receive_short(sent, 8)
        assert short is None or (short == [data] and not is_packed)
        assert [each for each in protocol.receive(sent) if isinstance(each, bytes)] == [data]


@given(OFFERS, st.lists(st.binary(max_size=2000), max_size=5), st.booleans())
def test_a_client_library_reads_the_frames(offer: str, messages: list[bytes], binary: bool) -> None:
    client, make = client_of(offer), deflated_frames(agreed(offer).window_bits)
    for data in messages:
        data = data * 40
        sent = make(BinaryFrame(data) if binary else data)
        assert sent[0] & 0x0F == (BINARY if binary else TEXT)
        width = {126: 4, 127: 10}.get(sent[1], 2)
        packed = Frame(Opcode.TEXT, sent[width:], True, bool(sent[0] & 0x40))
        assert bytes(client.decode(packed).data) == data


def test_short_and_incompressible_messages_are_sent_uncompressed() -> None:
    make = deflated_frames(15)
    for data in (b"", b"x" * 127, bytes(range(256))):
        assert make(data) == frame(data)
    assert len(make(b"x" * 128)) < 30


def test_the_same_window_has_the_same_framing_so_that_frames_can_be_shared() -> None:
    assert deflated_frames(12) is deflated_frames(12)
    assert deflated_frames(12) is not deflated_frames(15)


def bomb(size: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=-15)
    packed = compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return packed[:-4]


@pytest.mark.parametrize("parts", [1, 3])
def test_a_message_that_inflates_beyond_the_limit_is_1009_without_using_the_memory(
    parts: int,
) -> None:
    packed = bomb(200_000_000)
    assert len(packed) < 250_000
    size = -(-len(packed) // parts)
    sent = [
        client_frame(
            CONTINUATION if start else TEXT,
            packed[start : start + size],
            fin=start + size >= len(packed),
            rsv=0 if start else RSV1,
        )
        for start in range(0, len(packed), size)
    ]
    protocol = WebSocketProtocol(max_message_size=1_000_000, extension=agreed().extension)
    tracemalloc.start()
    (closed,) = protocol.receive(b"".join(sent))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(closed, PeerClosed)
    assert (closed.code, closed.by_peer) == (1009, False)
    assert peak < 5_000_000


def test_an_unnegotiated_or_damaged_compressed_frame_is_1002() -> None:
    (closed,) = WebSocketProtocol().receive(client_frame(TEXT, b"abc", rsv=RSV1))
    assert isinstance(closed, PeerClosed)
    assert closed.code == 1002
    protocol = WebSocketProtocol(extension=agreed().extension)
    (closed,) = protocol.receive(client_frame(TEXT, b"\xff\xff\xff", rsv=RSV1))
    assert isinstance(closed, PeerClosed)
    assert closed.code == 1002


def test_inflated_text_that_is_not_utf8_is_1007() -> None:
    client = client_of("permessage-deflate")
    protocol = WebSocketProtocol(extension=agreed().extension)
    (closed,) = protocol.receive(pack(client, b"\xff" * 10, 1))
    assert isinstance(closed, PeerClosed)
    assert closed.code == 1007


FRAMES = st.builds(
    client_frame,
    st.sampled_from([TEXT, BINARY, CONTINUATION, PING, 0x8]),
    st.one_of(st.binary(max_size=40), st.sampled_from([bomb(50), bomb(5000), b"", b"\x00"])),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, RSV1, RSV1, 2, 7]),
)


@given(OFFERS, st.lists(st.one_of(FRAMES, st.binary(max_size=20)), max_size=8))
def test_arbitrary_frames_do_not_raise_or_exceed_the_limit(offer: str, sent: list[bytes]) -> None:
    protocol = WebSocketProtocol(max_message_size=1000, extension=agreed(offer).extension)
    with no_failures_of_the_library():
        for piece in sent:
            for event in protocol.receive(piece):
                assert not isinstance(event, bytes) or len(event) <= 1000
                assert not isinstance(event, PeerClosed) or event.code != 1011


@contextlib.contextmanager
def no_failures_of_the_library() -> Iterator[None]:
    """The library logs an unexpected exception as a failed parser."""
    heard: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = heard.append  # type: ignore[assignment]
    log = logging.getLogger("channels.wire.websocket.library")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
    assert heard == []


def test_a_message_is_inflated_in_pieces_of_16_kib() -> None:
    protocol = WebSocketProtocol(extension=agreed().extension)
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(b"x" * 1_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)
    events = protocol.receive(client_frame(TEXT, packed[:-4], rsv=RSV1), 1)
    calls = 1
    while protocol.has_more:
        assert events == []
        before = protocol.held
        events = protocol.receive(b"", 1)
        assert protocol.held - before <= 16 * 1024
        calls += 1
    assert events == [b"x" * 1_000_000]
    assert calls >= 1_000_000 / (16 * 1024)
