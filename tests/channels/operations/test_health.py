"""Probes: their answers while an endpoint serves, announces its drain, and drains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import InvalidOption, spawn
from channels import Draining, Endpoint
from channels.operations.health import Health
from channels.pubsub.adapter import WORKER, WORKERS_COUNT, WORKERS_FOLDER
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import Server, head, settle

SOCKETS = {"/socket": UserSocket}


async def probe(server: Server, path: str, method: str = "GET") -> tuple[int, Any]:
    client = await server.accept()
    client.write(head(path, "host: test\r\n").replace(b"GET", method.encode()))
    await settle()
    answer = client.answer()
    assert answer is not None
    client.end()
    return answer.status, json.loads(answer.body or b"null")


async def ask(
    endpoint: Endpoint, path: str, method: str = "GET", root: str = "", version: str = "1.1"
) -> tuple[int, Any, dict[bytes, bytes]]:
    """Probe the endpoint as another ASGI server would."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "root_path": root, "headers": []}
    scope["http_version"] = version
    await endpoint(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"]), dict(sent[0]["headers"])


async def test_a_serving_endpoint_is_live_and_ready_and_not_draining(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Health()]))
    assert await probe(server, "/health/live") == (200, {"status": "live"})
    assert await probe(server, "/health/ready") == (200, {"status": "ready"})
    assert await probe(server, "/health/draining") == (200, {"draining": False})


async def test_a_probe_of_a_worker_says_for_which_worker_it_speaks(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKER, "3")
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Health()]))
    assert await probe(server, "/health/live") == (200, {"status": "live", "worker": "3"})
    assert await probe(server, "/health/ready") == (200, {"status": "ready", "worker": "3"})


async def test_one_worker_answers_for_all(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(WORKERS_FOLDER, str(tmp_path))
    monkeypatch.setenv(WORKERS_COUNT, "2")
    failing: list[str] = []

    async def database() -> bool:
        return not failing

    async def start(worker: str, **options: Any) -> Server:
        monkeypatch.setenv(WORKER, worker)
        health = Health(check_interval=0.001, **options)
        return await serve(Endpoint(sockets=SOCKETS, plugs=[health]))

    one = await start("1")
    status, body = await probe(one, "/health/workers")
    assert (status, body["ready"], body["wanted"], body["workers"]) == (503, 1, 2, {"1": "ready"})
    two = await start("2", checks={"database": database})
    assert await probe(two, "/health/workers") == (
        200,
        {
            "status": "ready",
            "ready": 2,
            "wanted": 2,
            "workers": {"1": "ready", "2": "ready"},
            "worker": "2",
        },
    )
    failing.append("database")
    await trio.sleep(0.01)
    status, body = await probe(one, "/health/workers")
    assert (status, body["workers"]) == (503, {"1": "ready", "2": "not ready"})
    await two.stop()
    (tmp_path / "health-2.sock").touch()
    await trio.sleep(0.01)
    status, body = await probe(one, "/health/workers")
    assert (status, body["workers"]) == (503, {"1": "ready", "2": "no answer"})


async def test_without_workers_the_probe_of_all_workers_is_the_readiness_probe(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Health()]))
    assert await probe(server, "/health/workers") == (200, {"status": "ready"})


async def test_an_endpoint_without_the_plug_has_no_probes(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS))
    client = await server.accept()
    client.write(head("/health/live", "host: test\r\n"))
    await settle()
    answer = client.answer()
    assert answer is not None
    assert answer.status == 404


async def test_readiness_ends_first_and_clients_can_connect_until_the_drain(serve: Serve) -> None:
    draining = Draining(notice=4.0)
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Health()], draining=draining))
    joined = await server.connect()
    spawn(server.stop)
    await settle()
    assert await probe(server, "/health/ready") == (503, {"status": "draining"})
    assert await probe(server, "/health/live") == (200, {"status": "live"})
    late = await server.connect()
    assert joined.frames() == late.frames() == []
    await trio.sleep(4.1)
    assert joined.frames() != []
    assert late.frames() != []


@pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready", "/health/draining"])
async def test_during_the_drain_each_request_on_a_new_connection_gets_503(
    serve: Serve, path: str
) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Health()]))
    await server.connect()  # it does not react, so the drain goes on
    spawn(server.stop)
    await settle()
    client = await server.accept()
    client.write(head(path, "host: test\r\n"))
    await settle()
    answer = client.answer()
    assert answer is not None
    assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "1", b"")


async def test_an_endpoint_in_development_gives_no_notice(serve: Serve) -> None:
    draining = Draining(notice=60.0)
    server = await serve(Endpoint(sockets=SOCKETS, development=True, draining=draining))
    before = trio.current_time()
    await server.stop()
    assert trio.current_time() == before


async def test_an_endpoint_that_another_one_follows_gives_no_notice(serve: Serve) -> None:
    server = await serve(
        Endpoint(sockets=SOCKETS, plugs=[Health()], draining=Draining(notice=60.0))
    )
    await server.endpoint.stop_accepting(grace=0.0)
    began = trio.current_time()
    await server.stop()
    assert trio.current_time() - began < 1.0


async def test_paths_are_configurable_and_can_be_turned_off(serve: Serve) -> None:
    health = Health(live="/livez", ready="/readyz", draining=None)
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[health]))
    assert await probe(server, "/livez") == (200, {"status": "live"})
    assert (await probe(server, "/readyz"))[0] == 200
    client = await server.accept()
    client.write(head("/health/draining", "host: test\r\n"))
    await settle()
    answer = client.answer()
    assert answer is not None
    assert answer.status == 404


async def test_other_methods_than_get_and_head_get_405(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Health()]))
    assert (await ask(server.endpoint, "/health/ready", "HEAD"))[0] == 200
    assert (await probe(server, "/health/ready", "DELETE"))[0] == 405


async def test_a_failing_check_names_itself_and_makes_the_server_unready() -> None:
    async def database() -> None:
        raise OSError("no route to 10.0.0.7")

    async def cache() -> bool:
        return False

    async def fine() -> None:
        pass

    async def slow() -> None:
        await trio.sleep_forever()

    checks = {"database": database, "cache": cache, "fine": fine, "slow": slow}
    endpoint = Endpoint(sockets=SOCKETS, plugs=[Health(checks=checks)])
    async with endpoint.running():
        status, body, _ = await ask(endpoint, "/health/ready")
        assert (status, body) == (
            503,
            {"status": "not ready", "failed": ["database", "cache", "slow"]},
        )
        assert (await ask(endpoint, "/health/live"))[0] == 200


async def test_a_mounted_endpoint_has_its_probes_below_its_mount() -> None:
    endpoint = Endpoint(sockets=SOCKETS, plugs=[Health()])
    async with endpoint.running():
        assert (await ask(endpoint, "/live/health/ready", root="/live"))[0] == 200


async def test_many_probes_cause_one_check_in_its_interval() -> None:
    runs = []

    async def check() -> None:
        runs.append(trio.current_time())
        await trio.sleep(0.5)

    health = Health(checks={"one": check}, check_interval=2.0)
    endpoint = Endpoint(sockets=SOCKETS, plugs=[health])
    async with endpoint.running():
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask, endpoint, "/health/ready")
        assert len(runs) == 1
        await trio.sleep(2.1)
        await ask(endpoint, "/health/ready")
        assert len(runs) == 2


async def test_a_leaving_server_closes_the_connection_of_a_probe(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Health()]))
    server.services.admission.leaving = True
    status, _, headers = await ask(server.endpoint, "/health/ready")
    assert (status, headers[b"connection"]) == (503, b"close")
    status, _, headers = await ask(server.endpoint, "/health/ready", version="2")
    assert (status, headers.get(b"connection")) == (503, None)


@pytest.mark.parametrize(
    "options",
    [{"live": "no-slash"}, {"live": "/a", "ready": "/a"}, {"check_timeout": 0}],
)
def test_an_invalid_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        Health(**options)


@pytest.mark.parametrize("plugs", [[Health], ["health"], [None]])
def test_an_endpoint_refuses_what_is_no_plug(plugs: list[Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        Endpoint(sockets=SOCKETS, plugs=plugs).check()
    assert refused.value.option == "plugs"


@pytest.mark.parametrize("notice", [-1, float("inf"), True, "5"])
def test_a_notice_is_a_finite_number_from_0(notice: Any) -> None:
    with pytest.raises(InvalidOption) as refused:
        Draining(notice=notice)
    assert refused.value.option == "notice"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"live": "/health/ready"},
            "ready='/health/ready'; write another path, because live= has the same one",
        ),
        ({"live": "health"}, "live='health'; write a path that begins with /, or None"),
    ],
)
def test_an_invalid_path_names_the_two_options_that_collide_or_its_own(
    options: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidOption) as refused:
        Health(**options)
    assert text in str(refused.value)
