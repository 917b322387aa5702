import pytest

from tests.benchmarks.channels.wire import (
    PLACEHOLDER,
    TEXT,
    WireError,
    client_frame,
    frames_in,
    numbered,
    only_text_in,
    response_end,
)


def server_frame(payload: bytes) -> bytes:
    """Return an unmasked frame, as servers send it."""
    sized = client_frame(TEXT, payload)
    head = sized[: len(sized) - len(payload) - 4]
    return bytes((head[0], head[1] & 0x7F)) + head[2:] + payload


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_frame_of_every_length_is_read_and_its_end_is_known(size: int) -> None:
    data = server_frame(b"x" * size)
    assert list(frames_in(data * 2)) == [
        (TEXT, b"x" * size, len(data)),
        (TEXT, b"x" * size, 2 * len(data)),
    ]


@pytest.mark.parametrize("size", [2, 125, 126, 65535])
def test_a_read_of_one_whole_text_is_known_at_once(size: int) -> None:
    data = server_frame(b"x" * size)
    assert only_text_in(data) == b"x" * size
    for other in (data[:-1], data + b"x", data * 2, b"\x82" + data[1:], b"\x01" + data[1:]):
        assert only_text_in(other) is None


def test_a_text_of_64_kilobytes_is_left_to_the_general_parser() -> None:
    assert only_text_in(server_frame(b"x" * 65536)) is None


@pytest.mark.parametrize("size", [5, 200, 70_000])
def test_an_incomplete_frame_waits_for_the_rest(size: int) -> None:
    data = server_frame(b"x" * size)
    for end in (0, 1, 2, 3, len(data) - 1):
        assert list(frames_in(data[:end])) == []


@pytest.mark.parametrize(
    "data",
    [b"\x01\x01x", b"\xc1\x01x", b"\x81\x81....x", b"\x80\x01x"],
    ids=lambda data: data.hex(),
)
def test_a_fragment_a_compressed_frame_and_a_masked_frame_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        list(frames_in(data))


def test_a_number_of_eight_digits_completes_a_frame() -> None:
    before, after = numbered(f'["{PLACEHOLDER}"]')
    assert before + b"12345678" + after == client_frame(TEXT, b'["12345678"]')


def test_the_end_of_an_accepted_upgrade_is_found() -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    assert response_end(answer[:-1]) == 0
    assert response_end(answer + b"\x81\x00") == len(answer)


def test_a_refused_upgrade_is_an_error_that_shows_the_status() -> None:
    with pytest.raises(WireError, match="403 Forbidden"):
        response_end(b"HTTP/1.1 403 Forbidden\r\n\r\n")
