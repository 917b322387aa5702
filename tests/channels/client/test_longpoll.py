"""Long polling of the client, against a server that says what the test wants."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import h11
import pytest
import trio
import trio.testing
from attrs import define, field
from trio.testing import MockClock

from channels.client.transports.contract import LinkFailed, LinkLost, Options
from channels.client.transports.longpoll import LongPollLink, open_longpoll

Answer = Callable[["Request"], Awaitable[Any]]

SESSION = {"status": 410, "token": "T0KEN+/=", "messages": []}


@define
class Request:
    """A request that the server has got."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def lines(self) -> list[str]:
        return self.body.decode().split("\n")


@define
class Server:
    """A server that keeps the requests, and answers them as `answer` says: a dict, bytes, or an HTTP status."""

    answer: Answer
    nursery: trio.Nursery
    requests: list[Request] = field(factory=list)
    connections: int = 0
    open: int = 0

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.connections += 1
        self.open += 1
        self.nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.StapledStream[Any, Any]) -> None:
        http = h11.Connection(h11.SERVER)
        try:
            while True:
                request = await self._receive(http, stream)
                self.requests.append(request)
                said = await self.answer(request)
                status = said if isinstance(said, int) else 200
                body = json.dumps(said).encode() if isinstance(said, dict) else b""
                if isinstance(said, bytes):
                    body = said
                response = h11.Response(
                    status_code=status, headers=[("content-length", str(len(body)))]
                )
                data = (http.send(response) or b"") + (http.send(h11.Data(data=body)) or b"")
                await stream.send_all(data + (http.send(h11.EndOfMessage()) or b""))
                http.start_next_cycle()
        except (EOFError, trio.BrokenResourceError, h11.RemoteProtocolError):
            self.open -= 1
            await stream.aclose()

    async def _receive(self, http: h11.Connection, stream: trio.abc.Stream) -> Request:
        head, body = None, b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Request(head.method.decode(), head.target.decode(), headers, body)
            else:
                raise EOFError

    def of(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]


@asynccontextmanager
async def session(
    answer: Answer, *, auth_token: str | None = None, **options: Any
) -> AsyncIterator[tuple[LongPollLink, Server]]:
    """Open a session with a server."""
    async with trio.open_nursery() as nursery:
        server = Server(answer, nursery)
        settings = {
            "url": "ws://server/socket",
            "params": {"a": "b"},
            "connect": server.connect,
            "ssl_context": None,
            "auth_token": auth_token,
            "headers": (("x-more", "yes"),),
            "connect_timeout": 10.0,
            "poll_timeout": 20.0,
            "max_message_bytes": 1000,
        }
        link = await open_longpoll(Options(**{**settings, **options}).opening("longpoll"))
        yield link, server
        await link.aclose(1000, "")
        nursery.cancel_scope.cancel()


def scripted(*answers: Any) -> Answer:
    """Answer polls one after another, and then hold them. Answer each POST with 200."""
    waiting = [SESSION, *answers]

    async def answer(request: Request) -> Any:
        if request.method == "POST":
            return {"status": 200}
        if not waiting:
            await trio.sleep_forever()
        return waiting.pop(0)

    return answer


def messages(*texts: str) -> dict[str, Any]:
    return {"status": 200, "token": "T", "messages": list(texts)}


# Polls


async def test_the_messages_of_a_poll_come_one_after_another_and_the_next_poll_follows() -> None:
    answer = scripted(
        messages("1", "2"), {"status": 204, "token": "T", "messages": []}, messages("3")
    )
    async with session(answer) as (link, server):
        assert [await link.receive() for _ in range(3)] == ["1", "2", "3"]
        assert [request.method for request in server.requests] == ["GET"] * 4
        assert server.connections == 1


@pytest.mark.parametrize("said", [messages(), {"status": 204, "token": "T", "messages": []}])
async def test_a_server_that_answers_at_once_without_messages_is_polled_once_a_second(
    said: Any, autojump_clock: MockClock
) -> None:
    async with session(scripted(*[said] * 10_000)) as (link, server):
        with trio.move_on_after(100):
            await link.receive()
        assert 100 <= len(server.requests) <= 102


async def test_a_server_that_always_has_a_message_is_polled_fifty_times_a_second(
    autojump_clock: MockClock,
) -> None:
    async with session(scripted(*[messages("1")] * 10_000)) as (link, server):
        with trio.move_on_after(10):
            while True:
                assert await link.receive() == "1"
        assert 500 <= len(server.requests) <= 502


async def test_a_poll_that_the_server_held_is_followed_by_the_next_one_at_once(
    autojump_clock: MockClock,
) -> None:
    answers = [SESSION, *[{"status": 204, "token": "T", "messages": []}] * 3, messages("1")]

    async def answer(request: Request) -> Any:
        said = answers.pop(0)
        await trio.sleep(0 if said is SESSION else 10)
        return said

    async with session(answer) as (link, _):
        assert await link.receive() == "1"
        assert trio.current_time() == pytest.approx(40)


async def test_a_post_that_fails_ends_a_session_that_waits_for_its_next_poll(
    autojump_clock: MockClock,
) -> None:
    async def answer(request: Request) -> Any:
        if request.method == "POST":
            return {"status": 500}
        return messages() if request.headers.get("x-phoenix-longpoll-token") else SESSION

    async with session(answer) as (link, _), trio.open_nursery() as nursery:

        async def post() -> None:
            await trio.sleep(0.5)
            with pytest.raises(LinkLost):
                await link.send(["x"])

        nursery.start_soon(post)
        with pytest.raises(LinkLost):
            await link.receive()
        assert trio.current_time() == pytest.approx(0.5)


async def test_the_first_request_has_no_token_and_the_others_have_it_in_a_header() -> None:
    async with session(scripted(messages("1"))) as (link, server):
        await link.receive()
        await link.send(["x"])
        first, second, post = server.requests
        assert "x-phoenix-longpoll-token" not in first.headers
        for request in (second, post):
            assert request.headers["x-phoenix-longpoll-token"] == SESSION["token"]
        for request in server.requests:
            assert request.target == "/socket/longpoll?a=b&vsn=2.0.0"
            assert request.headers["host"] == "server"
            assert request.headers["x-more"] == "yes"


async def test_a_server_that_looks_for_the_token_in_the_url_only_gets_it_there() -> None:
    async def answer(request: Request) -> Any:
        if "token=T0KEN%2B%2F%3D" not in request.target:
            return SESSION if request.method == "GET" else {"status": 410}
        if request.method == "POST":
            return {"status": 200}
        return messages("1")

    async with session(answer) as (link, server):
        assert await link.receive() == "1"
        await link.send(["x"])
        assert [request.method for request in server.requests] == ["GET", "GET", "GET", "POST"]
    async with session(answer) as (link, server):
        await link.send(["x"])
        assert [request.body for request in server.of("POST")] == [b"x", b"x"]


async def test_the_auth_token_is_in_a_header_of_each_request() -> None:
    async with session(scripted(messages("1")), auth_token="secret") as (link, server):
        await link.receive()
        assert [r.headers["x-phoenix-authtoken"] for r in server.requests] == ["secret"] * 2
    async with session(scripted()) as (_, server):
        assert "x-phoenix-authtoken" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        ({"status": 403}, 1008, "forbidden"),
        ({"status": 500}, 1011, "internal server error"),
        ({"status": 599}, 1011, "internal server error"),
        (b"{", 1011, "internal server error"),
        (502, 1011, "internal server error"),
        (b"[" * 2000, 1011, "internal server error"),
    ],
)
async def test_the_answer_to_a_poll_can_end_the_session(
    answer: Any, code: int, reason: str
) -> None:
    async with session(scripted(answer)) as (link, _):
        for _ in range(2):
            with pytest.raises(LinkLost) as lost:
                await link.receive()
            assert (lost.value.code, lost.value.reason) == (code, reason)


async def test_a_session_that_the_server_has_forgotten_ends() -> None:
    async with session(scripted(messages("1"), SESSION)) as (link, _):
        assert await link.receive() == "1"
        with pytest.raises(LinkLost) as lost:
            await link.receive()
        assert (lost.value.code, lost.value.reason) == (3410, "session_gone")


async def test_a_poll_without_an_answer_ends_the_session() -> None:
    async with session(scripted()) as (link, _):
        start = trio.current_time()
        with pytest.raises(LinkLost) as lost:
            await link.receive()
        assert (lost.value.code, lost.value.reason) == (1005, "timeout")
        assert trio.current_time() - start == pytest.approx(20)


@pytest.mark.parametrize(
    ("answer", "status"),
    [({"status": 403}, 403), ({"status": 200}, 200), (404, 404), (b"<html>", 200)],
)
async def test_a_session_that_does_not_begin_is_an_error_with_the_status(
    answer: Any, status: int
) -> None:
    async def say(request: Request) -> Any:
        return answer

    with pytest.RaisesGroup(pytest.RaisesExc(LinkFailed)) as caught:
        async with session(say):
            raise AssertionError("begun")
    (failed,) = caught.value.exceptions
    assert isinstance(failed, LinkFailed)
    assert failed.status == status


# Posts


async def test_a_batch_has_one_message_a_line_and_bytes_in_base64() -> None:
    async with session(scripted()) as (link, server):
        await link.send(['["1"]', b"\x00\x01\xff", '["2"]'])
        (post,) = server.of("POST")
        assert post.headers["content-type"] == "application/x-ndjson"
        assert post.body == b'["1"]\nAAH/\n["2"]'
        assert int(post.headers["content-length"]) == len(post.body)


async def test_150_messages_are_two_requests_in_order() -> None:
    async with session(scripted()) as (link, server):
        await link.send([str(number) for number in range(150)])
        first, second = server.of("POST")
        assert first.lines == [str(number) for number in range(100)]
        assert second.lines == [str(number) for number in range(100, 150)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [({"status": 408}, 1011), ({"status": 410}, 1011), (500, 1011), (b"?", 1011)],
)
async def test_a_post_that_fails_ends_the_session_and_the_poll(answer: Any, code: int) -> None:
    async def say(request: Request) -> Any:
        if request.method == "POST":
            return answer
        if request.headers.get("x-phoenix-longpoll-token"):
            await trio.sleep_forever()
        return SESSION

    async with session(say) as (link, server):
        ends: list[int] = []

        async def receive() -> None:
            try:
                await link.receive()
            except LinkLost as lost:
                ends.append(lost.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(LinkLost) as lost:
                await link.send(["x"])
        assert lost.value.code == code
        assert ends == [code]
        assert len(server.of("POST")) <= 2


async def test_a_post_without_an_answer_ends_the_session() -> None:
    async def say(request: Request) -> Any:
        if request.method == "POST":
            await trio.sleep_forever()
        return SESSION

    async with session(say) as (link, _):
        with pytest.raises(LinkLost) as lost:
            await link.send(["x"])
        assert (lost.value.code, lost.value.reason) == (1005, "timeout")


async def test_a_post_after_a_pause_uses_a_new_connection() -> None:
    async with session(scripted()) as (link, server):
        await link.send(["1"])
        await link.send(["2"])
        assert server.connections == 2
        await trio.sleep(5)
        await link.send(["3"])
        assert server.connections == 3


async def test_a_cancelled_close_closes_both_connections() -> None:
    async with session(scripted()) as (link, server):
        await link.send(["x"])
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.aclose(1000, "")
        await trio.testing.wait_all_tasks_blocked()
        assert server.open == 0
