"""Publishing over HTTP: each answer on the wire, and the messages that the clients get."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import trio

from actors import InvalidOption, Runtime
from channels import Channel, ConnectRefused, Endpoint, Socket, TokenError, sign, verify
from channels.durable import DurableChannel, History, MemoryStorage, StorageError
from channels.endpoint.endpoint import services_of
from channels.publishing.http import HttpPublish
from channels.pubsub.adapter import Node
from channels.serving import requests
from channels.telemetry import PUBLISH_ACCEPTED, PUBLISH_REFUSED
from tests.channels.conftest import Serve
from tests.channels.support import Answer, Server, settle

TOKEN = "a-token-for-the-tests"
SECRET = "s" * 32
HOST = "news.example"

history = History()


class Room(Channel):
    """A room without handlers."""


class Document(DurableChannel):
    history = history


class UserSocket(Socket):
    channels = {"room:*": Room, "document:*": Document}


def endpoint_with(**options: Any) -> Endpoint:
    publish = HttpPublish(**{"token": TOKEN, **options})
    return Endpoint(sockets={"/socket": UserSocket}, histories=[history], publish=publish)


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(endpoint_with())


async def post(
    server: Server,
    path: str = "/room:a/told",
    content: Any = None,
    *,
    body: bytes | None = None,
    method: str = "POST",
    token: str | None = TOKEN,
    scheme: str = "Bearer",
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """Send a request on a connection of its own, and return the answer."""
    data = json.dumps({} if content is None else content).encode() if body is None else body
    lines = [f"{method} /publish{path} HTTP/1.1", f"host: {HOST}", f"content-length: {len(data)}"]
    if token is not None:
        lines.append(f"authorization: {scheme} {token}")
    lines += [f"{name}: {value}" for name, value in headers]
    client = await server.accept()
    client.write("\r\n".join((*lines, "", "")).encode("latin-1") + data)
    await settle()
    answer = client.answer()
    assert answer is not None, "nothing came at once"
    return answer


def said(answer: Answer) -> tuple[int, Any]:
    """Return the status and the content of an answer, which caches do not store."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.status, json.loads(answer.body)


async def heard(server: Server, topic: str) -> Any:
    """Join a topic. Return a function that returns the events and payloads since its last call."""
    client = await server.connect()
    (frame,) = await client.exchange(("1", "1", topic, "phx_join", {}))
    assert frame[4]["status"] == "ok"
    return lambda: [frame[3:] for frame in client.frames()]


async def test_a_message_reaches_the_clients_of_its_topic(server: Server) -> None:
    ann, bob = await heard(server, "room:a"), await heard(server, "room:b")
    accepted = server.listen(PUBLISH_ACCEPTED)
    assert said(await post(server, "/room:a/told", {"n": 1})) == (202, {"nodes": 1})
    assert ann() == [["told", {"n": 1}]]
    assert bob() == []
    assert accepted == [({"messages": 1}, {"endpoint": server.endpoint, "nodes": 1})]
    assert server.endpoint.statistics()["counts"][PUBLISH_ACCEPTED] == 1


async def test_the_answer_counts_all_nodes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    others = (Node("b", "1"), Node("c", "1"))
    monkeypatch.setattr(server.endpoint.pubsub.adapter, "nodes", lambda: others, raising=False)
    assert said(await post(server)) == (202, {"nodes": 3})


async def test_names_in_the_path_are_percent_decoded(server: Server) -> None:
    ann = await heard(server, "room:é/1 2")
    assert (await post(server, "/room%3A%C3%A9%2F1%202/t%C3%B6ld")).status == 202
    assert ann() == [["töld", {}]]


async def test_a_batch_reaches_its_topics_in_order(server: Server) -> None:
    ann = await heard(server, "room:a")
    messages = [{"topic": "room:a", "event": "told", "payload": {"n": n}} for n in range(100)]
    assert said(await post(server, "", {"messages": messages})) == (202, {"nodes": 1})
    assert ann() == [["told", {"n": n}] for n in range(100)]


async def test_only_the_internal_port_serves_requests_that_are_not_public(runtime: Runtime) -> None:
    for public, status in ((True, 202), (False, 404)):
        endpoint = endpoint_with(public=public)
        pid = await endpoint.start_link(port=0, internal_port=0)
        server = Server(endpoint, runtime, pid)
        assert (await post(server)).status == status
        await server.stop()


# Tokens


@pytest.mark.parametrize("token", [None, "", "another-token-for-the-tests", f"{TOKEN}x", "ü" * 20])
async def test_a_request_without_the_token_gets_401(server: Server, token: str | None) -> None:
    ann = await heard(server, "room:a")
    refused = server.listen(PUBLISH_REFUSED)
    answer = await post(server, token=token)
    assert answer.headers["www-authenticate"] == "Bearer"
    status, content = said(answer)
    assert (status, list(content)) == (401, ["error"])
    assert ann() == []
    about = {"status": 401, "problem": content["error"], "field": None}
    assert refused == [({}, {"endpoint": server.endpoint, **about})]
    assert server.endpoint.statistics()["counts"][PUBLISH_REFUSED] == 1


async def test_the_scheme_of_the_token_is_bearer_in_any_case(server: Server) -> None:
    assert (await post(server, scheme="bearer")).status == 202
    assert (await post(server, scheme="Basic")).status == 401


async def test_a_request_without_the_token_gets_its_answer_before_its_body(server: Server) -> None:
    client = await server.accept()
    client.write(
        f"POST /publish/room:a/told HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 99\r\n\r\n".encode()
    )
    await settle()
    answer = client.answer()
    assert answer is not None
    assert answer.status == 401


def signed(token: str) -> Any:
    return verify(SECRET, "publish", token, max_age=60)


async def test_a_verifier_decides_about_tokens(serve: Serve) -> None:
    server = await serve(endpoint_with(token=signed))
    assert (await post(server, token=sign(SECRET, "publish", "cron"))).status == 202
    assert (await post(server, token=sign(SECRET, "other", "cron"))).status == 401
    assert (await post(server, token=sign(SECRET, "publish", "cron", signed_at=0))).status == 401


@pytest.mark.parametrize("answer", [None, False, TokenError("no"), ConnectRefused("no")])
async def test_a_verifier_refuses_with_an_error_or_with_nothing(serve: Serve, answer: Any) -> None:
    def check(token: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert (await post(await serve(endpoint_with(token=check)))).status == 401


async def test_a_verifier_that_crashes_lets_nothing_through(serve: Serve) -> None:
    def check(token: str) -> Any:
        raise LookupError("the database is away")

    server = await serve(endpoint_with(token=check))
    ann = await heard(server, "room:a")
    assert (await post(server)).status == 500
    assert ann() == []


async def asynchronous(token: str) -> str:
    return token


async def test_a_verifier_that_returns_a_coroutine_lets_nothing_through(serve: Serve) -> None:
    def check(token: str) -> Any:
        return asynchronous(token)

    server = await serve(endpoint_with(token=check))
    ann = await heard(server, "room:a")
    assert (await post(server)).status == 500
    assert ann() == []


# Origins


async def test_a_page_of_another_origin_gets_403(server: Server) -> None:
    ann = await heard(server, "room:a")
    for origin in ("http://evil.example", f"https://{HOST}", f"http://{HOST}:81", "null"):
        answer = await post(server, headers=(("origin", origin),))
        status, content = said(answer)
        assert (status, list(content)) == (403, ["error"])
        assert "access-control-allow-origin" not in answer.headers
    assert ann() == []


async def test_a_page_of_the_own_origin_may_publish(server: Server) -> None:
    assert (await post(server, headers=(("origin", f"http://{HOST}"),))).status == 202


async def test_a_page_of_an_allowed_origin_may_publish_and_read_each_answer(serve: Serve) -> None:
    server = await serve(endpoint_with(origins=["https://shop.example"]))
    origin = ("origin", "https://shop.example")
    for token, status in ((TOKEN, 202), ("wrong", 401)):
        answer = await post(server, token=token, headers=(origin,))
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert answer.headers["vary"] == "origin"
    assert (await post(server, headers=(("origin", "https://evil.example"),))).status == 403


async def test_a_preflight_request_needs_no_token(serve: Serve) -> None:
    server = await serve(endpoint_with(origins=["https://shop.example"]))
    wanted = (
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    )
    asked = (("origin", "https://shop.example"), *wanted)
    answer = await post(server, body=b"", method="OPTIONS", token=None, headers=asked)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    evil = (("origin", "https://evil.example"), *wanted)
    refused = await post(server, body=b"", method="OPTIONS", token=None, headers=evil)
    assert refused.status == 403


# Bodies


async def test_a_body_beyond_the_limit_gets_413(serve: Serve) -> None:
    server = await serve(endpoint_with(max_body_bytes=20))
    ann = await heard(server, "room:a")
    assert (await post(server, body=b'{"n":1}'.ljust(20))).status == 202
    status, content = said(await post(server, body=b'{"n":1}'.ljust(21)))
    assert (status, content) == (413, {"error": "the body has more than 20 bytes"})
    assert ann() == [["told", {"n": 1}]]


async def test_a_slow_body_gets_408(serve: Serve) -> None:
    server = await serve(endpoint_with(body_timeout=3))
    client = await server.accept()
    lines = ("POST /publish/room:a/told HTTP/1.1", f"host: {HOST}", "content-length: 9")
    client.write("\r\n".join((*lines, f"authorization: Bearer {TOKEN}", "", "{")).encode())
    await trio.sleep(2.9)
    assert client.answer() is None
    await trio.sleep(0.2)
    answer = client.answer()
    assert answer is not None
    assert answer.status == 408


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/room:a/told", b"{", "payload"),
        ("/room:a/told", b"\xff", "payload"),
        ("/room:a/told", b"", "payload"),
        ("/room:a/told", b"[1]", "payload"),
        ("/room:a/told", b'{"n": 1e999}', "payload"),
        ("/room:a/told", b'{"n":' + b"1" * 5000 + b"}", "payload"),
        ("/room:a/told", b'{"n": "\\ud800"}', "payload"),
        ("/room:a/told", b'{"n":' + b"[" * 9000, "payload"),
        ("/room:a/phx_close", b"{}", "event"),
        ("/room:a/", b"{}", "event"),
        ("//told", b"{}", "topic"),
        ("/ashtree:relay/told", b"{}", "topic"),
        ("/%FF/told", b"{}", "topic"),
        ("", b"{", "messages"),
        ("", b"[]", "messages"),
        ("", b"{}", "messages"),
        ("", b'{"messages": []}', "messages"),
        ("", b'{"messages": [{"topic": "room:a", "event": "x"}]}', "messages[0].payload"),
        (
            "",
            b'{"messages": [{"topic": "a", "event": 1, "payload": {}}]}',
            "messages[0].event",
        ),
        (
            "",
            b'{"messages": [{"topic": "a", "event": "x", "payload": {}},{"topic": "", "event": "x", "payload": {}}]}',
            "messages[1].topic",
        ),
    ],
)
async def test_an_invalid_request_gets_422_with_the_field_and_publishes_nothing(
    server: Server, path: str, body: bytes, field: str
) -> None:
    ann = await heard(server, "room:a")
    status, content = said(await post(server, path, body=body))
    assert (status, content["field"]) == (422, field)
    assert content["error"]
    assert ann() == []


async def test_the_log_names_the_field_of_an_invalid_request(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "channels"):
        await post(await serve(endpoint_with()), "", {})
    assert "with HTTP status 422: messages: is missing" in caplog.text


async def test_the_body_counts_until_its_message_is_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    append = history.append

    async def observed(*args: Any, **options: Any) -> str:
        counted.append(services_of(server.endpoint).transports.incoming.waiting_bytes)
        return await append(*args, **options)

    monkeypatch.setattr(history, "append", observed)
    assert (await post(server, "/document:1/edited", body=b'{"n":1}'.ljust(900))).status == 202
    assert counted == [900]


async def test_a_batch_beyond_the_limit_gets_422(serve: Serve) -> None:
    server = await serve(endpoint_with(max_batch=2))
    messages = [{"topic": "room:a", "event": "told", "payload": {}}] * 3
    assert (await post(server, "", {"messages": messages[:2]})).status == 202
    status, content = said(await post(server, "", {"messages": messages}))
    assert (status, content["field"]) == (422, "messages")


async def test_other_methods_and_paths_are_refused(server: Server) -> None:
    answer = await post(server, method="PUT")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    for path in ("/room:a", "/room:a/told/more"):
        assert said(await post(server, path))[0] == 404
    # These paths belong to the application of the endpoint.
    assert (await post(server, "ed")).headers["content-type"] != "application/json"


# The limit of each token


async def test_a_token_beyond_its_limit_gets_429_until_retry_after(serve: Serve) -> None:
    server = await serve(endpoint_with(token=signed, max_messages_per_second=0.5))
    cron, shop = (sign(SECRET, "publish", name) for name in ("cron", "shop"))
    for _ in range(5):
        assert (await post(server, token=cron)).status == 202
    answer = await post(server, token=cron)
    status, content = said(answer)
    assert (status, list(content), answer.headers["retry-after"]) == (429, ["error"], "2")
    assert (await post(server, token=shop)).status == 202
    await trio.sleep(2)
    assert (await post(server, token=cron)).status == 202
    assert (await post(server, token=cron)).status == 429


async def test_every_message_of_a_batch_counts(serve: Serve) -> None:
    server = await serve(endpoint_with(max_messages_per_second=1))
    messages = [{"topic": "room:a", "event": "told", "payload": {}}] * 15
    assert (await post(server, "", {"messages": messages})).status == 202
    answer = await post(server)
    assert (answer.status, answer.headers["retry-after"]) == (429, "6")


async def test_of_batches_at_the_same_time_only_one_may_exceed_the_limit(serve: Serve) -> None:
    server = await serve(endpoint_with(max_messages_per_second=1))
    ann = await heard(server, "room:a")
    one = {"topic": "room:a", "event": "told", "payload": {}}
    body = json.dumps({"messages": [one] * 100}).encode()
    lines = ("POST /publish HTTP/1.1", f"host: {HOST}", f"authorization: Bearer {TOKEN}")
    head = "\r\n".join((*lines, f"content-length: {len(body)}", "", "")).encode()
    clients = [await server.accept() for _ in range(5)]
    for part in (head + body[:10], body[10:]):
        for client in clients:
            client.write(part)
        await settle()
    answers = [client.answer() for client in clients]
    assert sorted(answer.status for answer in answers if answer) == [202] + [429] * 4
    assert len(ann()) == 100


async def test_padding_gives_a_token_no_second_limit(serve: Serve) -> None:
    server = await serve(endpoint_with(token=signed, max_messages_per_second=0.1))
    token = sign(SECRET, "publish", "cron")
    assert (await post(server, token=token)).status == 202
    padded = [await post(server, token=token + "=" * count) for count in (1, 2, 4, 5, 401)]
    assert [answer.status for answer in padded] == [429, 401, 401, 401, 401]


async def test_the_table_of_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_CALLERS", 2)
    limit = requests.CallerLimit("Test", "rate", 1.0)
    first, second, third = (
        requests.Caller(hashlib.sha256(name).digest()) for name in (b"1", b"2", b"3")
    )
    for caller in (first, second, first, third, first):
        limit.take(caller, 0.0)
    assert len(limit) == 2
    limit.add(first, 7, 0.0)
    with pytest.raises(requests.RequestRefused) as refused:
        limit.take(first, 0.0)
    assert refused.value.status == 429


# Durable topics


async def test_a_durable_topic_keeps_the_message(server: Server) -> None:
    ann = await heard(server, "document:1")
    status, content = said(await post(server, "/document:1/edited", {"text": "a"}))
    (entry,) = (await history.read("document:1")).entries
    assert (status, content) == (202, {"nodes": 1, "positions": [f"{entry.epoch}:1"]})
    assert [(event, payload["text"]) for event, payload in ann()] == [("edited", "a")]


async def test_a_repeated_post_with_the_key_gives_the_first_answer_and_no_second_entry(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await heard(server, "document:1")
    key = ("idempotency-key", "order-7")
    first = said(await post(server, "/document:1/edited", {"text": "a"}, headers=(key,)))
    others = (Node("b", "1"),)
    monkeypatch.setattr(server.endpoint.pubsub.adapter, "nodes", lambda: others, raising=False)
    assert said(await post(server, "/document:1/edited", {"text": "a"}, headers=(key,))) == first
    assert len(ann()) == len((await history.read("document:1")).entries) == 1
    another = await post(server, "/document:2/edited", {"text": "a"}, headers=(key,))
    assert another.status == 202
    assert len((await history.read("document:2")).entries) == 1


async def test_a_repeated_batch_with_the_key_keeps_each_message_once(server: Server) -> None:
    key = ("idempotency-key", "orders")
    messages = [
        {"topic": "document:1", "event": "edited", "payload": {"text": text}} for text in "aab"
    ]
    answers = [said(await post(server, "", {"messages": messages}, headers=(key,))) for _ in "12"]
    assert answers[0] == answers[1]
    assert len(answers[0][1]["positions"]) == 3
    assert len((await history.read("document:1")).entries) == 3


async def test_the_keys_of_a_batch_are_no_keys_of_single_messages(server: Server) -> None:
    for key in ("a", "a:0", "a:1"):
        headers = (("idempotency-key", key),)
        messages = [
            {"topic": "document:1", "event": "edited", "payload": {"text": f"{key} {n}"}}
            for n in range(2)
        ]
        assert (await post(server, "", {"messages": messages}, headers=headers)).status == 202
    assert len((await history.read("document:1")).entries) == 6


@pytest.mark.parametrize("key", ["", "k" * 129])
async def test_an_invalid_key_gets_422(server: Server, key: str) -> None:
    answer = await post(server, "/document:1/edited", headers=(("idempotency-key", key),))
    status, content = said(answer)
    assert (status, content["field"]) == (422, "Idempotency-Key")
    assert not (await history.read("document:1")).entries


async def test_one_key_for_two_messages_gets_422(server: Server) -> None:
    key = ("idempotency-key", "order-7")
    assert (await post(server, "/document:1/edited", {"text": "a"}, headers=(key,))).status == 202
    answer = await post(server, "/document:1/edited", {"text": "b"}, headers=(key,))
    status, content = said(answer)
    assert (status, content["field"]) == (422, "Idempotency-Key")
    assert len((await history.read("document:1")).entries) == 1


async def test_of_two_messages_with_one_key_at_the_same_time_the_kept_one_gets_202(
    server: Server,
) -> None:
    clients = [await server.accept() for _ in range(3)]
    for number, client in enumerate(clients):
        lines = ("POST /publish/document:1/edited HTTP/1.1", f"host: {HOST}", "content-length: 7")
        more = (f"authorization: Bearer {TOKEN}", "idempotency-key: order-7", "", "")
        client.write("\r\n".join((*lines, *more)).encode() + b'{"n":%d}' % number)
    await settle()
    answers = [client.answer() for client in clients]
    (entry,) = (await history.read("document:1")).entries
    statuses = [answer.status for answer in answers if answer]
    assert sorted(statuses) == [202, 422, 422]
    assert json.loads(entry.body) == {"n": statuses.index(202)}


async def test_a_message_that_the_history_cannot_keep_leaves_its_key_to_another(
    server: Server,
) -> None:
    headers = (("idempotency-key", "order-7"),)
    wrong = await post(server, "/document:1/edited", {"_position": "x"}, headers=headers)
    assert wrong.status == 422
    assert (await post(server, "/document:1/edited", {"n": 1}, headers=headers)).status == 202


async def test_a_forgotten_answer_does_not_give_another_message_the_first_position(
    serve: Serve,
) -> None:
    class Forgetful(MemoryStorage):
        async def append(self, batch: Any, *, now: float, answers: Any = ()) -> Any:
            done = await super().append(batch, now=now, answers=answers)
            for each in answers:
                self._keys._drop(each.key)
            return done

    forgetful = History(Forgetful(), name="forgetful")

    class Forgotten(DurableChannel):
        history = forgetful

    class ForgottenSocket(Socket):
        channels = {"small:*": Forgotten}

    sockets: Any = {"/socket": ForgottenSocket}
    server = await serve(
        Endpoint(sockets=sockets, histories=[forgetful], publish=HttpPublish(token=TOKEN))
    )
    headers = (("idempotency-key", "order-7"),)
    for number in (1, 1, 2):
        _, content = said(await post(server, "/small:1/edited", {"n": number}, headers=headers))
        assert content["positions"][0].endswith(f":{number}")
    entries = (await forgetful.read("small:1")).entries
    assert [json.loads(entry.body)["n"] for entry in entries] == [1, 2]


async def test_texts_of_the_sender_come_back_shortened(server: Server) -> None:
    logged = server.listen(PUBLISH_REFUSED)
    long, key = "x" * 60_000, ("idempotency-key", "k")
    messages = [{"topic": long, "event": "told", "payload": {}}]
    answers = [
        await post(server, "", {"messages": messages}, headers=(key,)),
        await post(server, "", {"messages": [{**messages[0], "topic": "a", long: 1}]}),
        await post(server, headers=(("origin", "http://" + long[:15_000]),)),
    ]
    assert [answer.status for answer in answers] == [422, 422, 403]
    assert all(len(answer.body) < 2200 for answer in answers)
    assert all(len(about["problem"]) < 2200 for _, about in logged)


async def test_a_key_for_a_topic_that_is_not_durable_gets_422(server: Server) -> None:
    ann, key = await heard(server, "room:a"), ("idempotency-key", "k")
    status, content = said(await post(server, headers=(key,)))
    assert (status, content["field"]) == (422, "Idempotency-Key")
    messages: list[Any] = [
        {"topic": topic, "event": "told", "payload": {}} for topic in ("document:1", "room:a")
    ]
    assert (await post(server, "", {"messages": messages}, headers=(key,))).status == 422
    assert not (await history.read("document:1")).entries
    assert ann() == []


async def test_requests_with_one_key_at_the_same_time_keep_one_message(server: Server) -> None:
    body = b'{"text":"a"}'
    lines = (
        "POST /publish/document:1/edited HTTP/1.1",
        f"host: {HOST}",
        "idempotency-key: order-7",
    )
    head = "\r\n".join((*lines, f"authorization: Bearer {TOKEN}", "content-length: 12", "", ""))
    clients = [await server.accept() for _ in range(3)]
    for client in clients:
        client.write(head.encode() + body)
    await settle()
    answers = [client.answer() for client in clients]
    assert [answer.status for answer in answers if answer] == [202] * 3
    assert len({answer.body for answer in answers if answer}) == 1
    assert len((await history.read("document:1")).entries) == 1


async def test_a_message_of_a_batch_that_the_history_refuses_has_its_place_in_the_answer(
    server: Server,
) -> None:
    payloads: list[Any] = [{"text": "a"}, {"_position": "x"}, {"text": "b"}]
    messages = [{"topic": "document:1", "event": "edited", "payload": each} for each in payloads]
    accepted = server.listen(PUBLISH_ACCEPTED)
    status, content = said(await post(server, "", {"messages": messages}))
    assert (status, content["field"]) == (422, "messages[1]")
    assert len((await history.read("document:1")).entries) == 1
    assert [measured for measured, _ in accepted] == [{"messages": 1}]


class BreakableStorage(MemoryStorage):
    """A storage that fails for messages, for answers, or for both."""

    fails_for: tuple[str, ...] = ()
    may_be_kept = False

    async def append(self, batch: Any, *, now: float, answers: Any = ()) -> Any:
        has = {"messages": batch, "answers": answers}
        if any(has[each] for each in self.fails_for):
            if self.may_be_kept:
                await super().append(batch, now=now, answers=answers)
            raise StorageError("test", "the disk is full", may_be_kept=self.may_be_kept)
        return await super().append(batch, now=now, answers=answers)


async def breakable(serve: Serve, **limits: Any) -> tuple[Server, History, BreakableStorage]:
    """Serve the durable topics `small:*`. Return the server, the history, and its storage."""
    storage = BreakableStorage()
    small = History(storage, name="small", **limits)

    class Small(DurableChannel):
        history = small

    class SmallSocket(Socket):
        channels = {"small:*": Small}

    publish = HttpPublish(token=TOKEN)
    endpoint = Endpoint(sockets={"/socket": SmallSocket}, histories=[small], publish=publish)
    return await serve(endpoint), small, storage


@pytest.mark.parametrize("may_be_kept", [False, True])
@pytest.mark.parametrize("broken", ["answers", "messages"])
async def test_after_a_failure_of_the_storage_a_202_is_only_for_the_kept_message(
    serve: Serve, broken: str, *, may_be_kept: bool
) -> None:
    server, small, storage = await breakable(serve)
    storage.may_be_kept = may_be_kept
    key = ("idempotency-key", "order-7")
    storage.fails_for = (broken,)
    answer = await post(server, "/small:1/edited", {"n": 1}, headers=(key,))
    again = "send it again with the same Idempotency-Key"
    problem = f"the history may not have kept the message: the disk is full; {again}"
    assert (answer.status, json.loads(answer.body)) == (503, {"error": problem})
    storage.fails_for = ()
    statuses: dict[int, int] = {}
    for number in (2, 1, 2, 1):
        answer = await post(server, "/small:1/edited", {"n": number}, headers=(key,))
        assert statuses.setdefault(number, answer.status) == answer.status
    (entry,) = (await small.read("small:1")).entries
    (winner,) = [number for number, status in statuses.items() if status == 202]
    assert json.loads(entry.body) == {"n": winner}


async def test_errors_of_the_history_have_answers(serve: Serve) -> None:
    server, small, storage = await breakable(serve, max_bytes=30)
    assert (await post(server, "/small:1/edited", {"text": "x" * 40})).status == 413
    status, content = said(await post(server, "/small:1/edited", {"_position": "x"}))
    assert (status, content["field"]) == (422, "payload")
    await small.claim("small:1", 1)
    assert (await post(server, "/small:1/edited")).status == 409
    storage.fails_for = ("messages",)
    answer = await post(server, "/small:2/edited")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"token": "short"},
        {"token": None},
        {"token": asynchronous},
        {"token": "a token with spaces in it"},
        {"path": "publish"},
        {"path": "/publish/"},
        {"path": "/pub lish"},
        {"path": "/publish?x"},
        {"path": "/ä"},
        {"origins": "https://shop.example"},
        {"origins": ["shop"]},
        {"max_messages_per_second": 0},
        {"max_batch": 0},
        {"max_body_bytes": 0},
        {"body_timeout": 0},
    ],
    ids=str,
)
def test_an_invalid_option_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        HttpPublish(**{"token": TOKEN, **options})
    assert refused.value.option == next(iter(options))
    assert "short" not in str(refused.value)


def test_an_endpoint_checks_its_option() -> None:
    with pytest.raises(InvalidOption) as refused:
        Endpoint(sockets={"/socket": UserSocket}, publish=TOKEN).check()  # type: ignore[arg-type]
    assert refused.value.option == "publish"
