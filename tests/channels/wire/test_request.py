"""Heads of requests: accepted ones, refused ones, and no exceptions for any input."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.wire.request import BadRequest, Head, Headers, HeadParser, ParsedHead

HOST = b"Host: localhost\r\n"


def parse(data: bytes, *, max_size: int = 16_384) -> ParsedHead | None:
    return HeadParser(max_size=max_size).feed(data)


def parsed(data: bytes) -> Head:
    result = parse(data)
    assert isinstance(result, Head), result
    return result


def refused(data: bytes, *, max_size: int = 16_384) -> BadRequest:
    result = parse(data, max_size=max_size)
    assert isinstance(result, BadRequest), result
    return result


def test_a_head_has_method_path_query_version_and_headers() -> None:
    head = parsed(b"GET /socket/websocket?vsn=2.0.0&a=b?c HTTP/1.1\r\n" + HOST + b"X-A: 1 \r\n\r\n")
    assert (head.method, head.version) == ("GET", "1.1")
    assert head.target == "/socket/websocket?vsn=2.0.0&a=b?c"
    assert (head.path, head.query) == ("/socket/websocket", "vsn=2.0.0&a=b?c")
    assert list(head.headers) == [("host", "localhost"), ("x-a", "1")]


def test_nothing_is_decoded() -> None:
    head = parsed(b"GET /a%2Fb%00?c=%C3%A9+d HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (head.path, head.query) == ("/a%2Fb%00", "c=%C3%A9+d")


def test_a_head_keeps_the_bytes_after_it_and_all_bytes() -> None:
    data = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n\x81\x80\r\n\r\n"
    head = parsed(data)
    assert head.rest == b"\x81\x80\r\n\r\n"
    assert head.received == data


@given(st.lists(st.integers(0, 200), max_size=6))
def test_a_head_may_be_cut_anywhere(places: list[int]) -> None:
    data = b"GET /a?b HTTP/1.1\r\n" + HOST + b"Accept: x\r\n\r\nrest"
    edges = [0, *sorted({place % (len(data) - 4) for place in places}), len(data)]
    parser = HeadParser()
    *before, last = (parser.feed(data[a:b]) for a, b in pairwise(edges) if a < b)
    assert all(result is None for result in before)
    assert isinstance(last, Head)
    assert (last.path, last.headers["accept"], last.rest) == ("/a", "x", b"rest")
    assert last.received == data


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"http://example.org/a/b?c=d", "/a/b", "c=d", "example.org"),
        (b"HTTPS://example.org:81/", "/", "", "example.org:81"),
        (b"http://example.org", "/", "", "example.org"),
        (b"http://example.org?q", "/", "q", "example.org"),
        (b"*", "*", "", "localhost"),
        (b"example.org:443", "example.org:443", "", "localhost"),
        (b"//example.org/a", "//example.org/a", "", "localhost"),
    ],
)
def test_targets_of_every_form_have_a_path(target: bytes, path: str, query: str, host: str) -> None:
    head = parsed(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (head.path, head.query, head.headers["host"]) == (path, query, host)
    assert head.target == target.decode()


def test_one_empty_line_before_a_request_is_skipped() -> None:
    head = parsed(b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert head.path == "/"
    assert head.received.startswith(b"GET")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01", 400),  # the beginning of TLS
        (b"\r\n\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\r\nHost: a\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.1\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
    ],
)
def test_malformed_requests_are_refused(data: bytes, status: int) -> None:
    assert refused(data).status == status


@pytest.mark.parametrize(
    "name",
    ["Host", "Origin", "Content-Length", "Authorization", "Sec-WebSocket-Key"],
)
def test_a_header_that_has_one_value_may_not_be_there_twice(name: str) -> None:
    line = f"{name}: 1\r\n".encode()
    other = b"" if name == "Host" else HOST
    result = refused(b"GET / HTTP/1.1\r\n" + other + line + line.upper() + b"\r\n")
    assert result == BadRequest(
        status=400, problem=f"the header {name.lower()!r} appears twice; send it once"
    )


def test_an_old_client_needs_no_host() -> None:
    assert parsed(b"GET / HTTP/1.0\r\n\r\n").version == "1.0"


def test_headers_that_are_lists_are_joined_and_read_in_any_case() -> None:
    headers = parsed(
        b"GET / HTTP/1.1\r\n"
        + HOST
        + b"Connection: keep-alive\r\nCONNECTION:\tUpgrade ,, x\r\n\r\n"
    ).headers
    assert headers["connection"] == "keep-alive, Upgrade ,, x"
    assert headers.tokens("Connection") == ["keep-alive", "upgrade", "x"]
    assert headers.tokens("Upgrade") == []
    assert "CONNECTION" in headers
    assert "upgrade" not in headers
    assert len(headers) == 3


def test_a_header_that_was_not_sent_is_a_key_error_with_its_name() -> None:
    with pytest.raises(KeyError, match="cookie"):
        Headers([])["cookie"]


def test_values_of_headers_stay_out_of_logs() -> None:
    head = parsed(b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: secret\r\n\r\n")
    assert "secret" not in repr(head)
    assert "cookie" in repr(head)


def test_values_beyond_ascii_are_read_as_latin_1() -> None:
    head = parsed(b"GET / HTTP/1.1\r\n" + HOST + b"X: caf\xe9\r\n\r\n")
    assert head.headers["x"] == "café"


def test_a_head_is_bounded_to_the_byte() -> None:
    start = b"GET / HTTP/1.1\r\n" + HOST + b"X: "
    fits = start + b"x" * (100 - len(start) - 4) + b"\r\n\r\n"
    assert len(fits) == 100
    assert isinstance(parse(fits, max_size=100), Head)
    assert isinstance(parse(fits + b"rest", max_size=100), Head)
    assert refused(fits.replace(b"X", b"XX"), max_size=100).status == 431


def test_a_head_without_an_end_is_refused_when_the_bound_is_reached() -> None:
    parser = HeadParser(max_size=100)
    assert parser.feed(b"GET / HTTP/1.1\r\n" + b"x" * 83) is None
    result = parser.feed(b"x")
    assert isinstance(result, BadRequest)
    assert result.status == 431


def test_a_request_line_without_an_end_is_414() -> None:
    assert refused(b"GET /" + b"x" * 100, max_size=100).status == 414


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_arbitrary_bytes_do_not_make_it_raise(pieces: list[bytes]) -> None:
    parser = HeadParser(max_size=100)
    for piece in pieces:
        if parser.feed(piece) is not None:
            return


words = st.sampled_from(
    [b"GET ", b"/", b" HTTP/1.1", b"\r\n", b"\r", b"\n", b"Host: a", b":", b" ", b"\x00", b"\xff"]
)


@given(st.lists(words, max_size=30).map(b"".join))
def test_malformed_requests_do_not_make_it_raise(data: bytes) -> None:
    whole = parse(data)
    parser = HeadParser()
    one_by_one = None
    for i in range(len(data)):
        one_by_one = parser.feed(data[i : i + 1])
        if one_by_one is not None:
            break
    assert type(whole) is type(one_by_one)


@pytest.mark.parametrize(
    "header", [b"a" * 15_000, b"a:" + b" " * 15_000 + b"\x01", b"a:b\r\n" * 3_000 + b"\x01"]
)
def test_a_head_that_is_invalid_at_its_end_is_refused_quickly(header: bytes) -> None:
    data = b"GET / HTTP/1.1\r\n" + HOST + header + b"\r\n\r\n"
    started = time.process_time()
    assert refused(data).status == 400
    # Half a millisecond is usual; trying every way of matching would take minutes.
    assert time.process_time() - started < 0.5


def test_a_head_that_arrives_byte_by_byte_is_parsed_quickly() -> None:
    parser = HeadParser()
    started = time.process_time()
    for _ in range(16_383):
        assert parser.feed(b"a") is None
    # A twentieth of a second is usual. Searching the whole head for each byte would take two seconds.
    assert time.process_time() - started < 1
