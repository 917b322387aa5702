"""The chaos control: its access rules, its faults, and its answers about the tree."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

from actors import (
    GenServer,
    InvalidOption,
    NoReply,
    Pid,
    Reply,
    Runtime,
    call,
    cast,
    is_alive,
    kill,
    whereis,
)
from channels import Endpoint
from channels.entities import Entity, EntitySupervisor
from channels.operations import chaos_control
from channels.operations.chaos_control import ChaosControl
from channels.pubsub.adapter import WORKER
from supervision import Supervisor, child_spec
from supervision.recording.flight import FlightRecorder
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import head, settle

TOKEN = "a-token-for-the-tests"
PATH = "/_ashtree/chaos"

Ask: TypeAlias = Callable[..., Awaitable[tuple[int, Any]]]


class Clerk(GenServer[int]):
    async def init(self) -> None:
        self.state = 0

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(self.state)

    async def handle_cast(self, request: Any) -> NoReply:
        self.state += 1
        return NoReply()


class Shop(Entity):
    """An entity that only exists."""


def endpoint_with(control: ChaosControl) -> Endpoint:
    return Endpoint(sockets={"/socket": UserSocket}, plugs=[control])


async def request(
    endpoint: Endpoint,
    verb: str,
    content: Any = None,
    *,
    method: str = "POST",
    token: str | None = TOKEN,
    key: str | None = None,
    body: bytes | None = None,
) -> tuple[int, Any]:
    """Send a request as an ASGI server would. Return the status and the answer."""
    sent: list[Any] = []
    data = json.dumps({} if content is None else content).encode() if body is None else body

    async def receive() -> Any:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    if key is not None:
        headers.append((b"idempotency-key", key.encode()))
    scope = {"type": "http", "method": method, "path": f"{PATH}/{verb}", "root_path": ""}
    await endpoint({**scope, "headers": headers, "http_version": "1.1"}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture
async def endpoint(serve: Serve) -> Endpoint:
    made = endpoint_with(ChaosControl(token=TOKEN))
    await serve(made)
    return made


async def shop(*, restart: str = "permanent") -> Pid:
    """Start a supervisor with one clerk, which is registered as `clerk`."""
    spec = child_spec(Clerk, id="clerk", restart=restart, kwargs={"name": "clerk"})
    return await Supervisor.start_link([spec], label="shop", max_restarts=100)


def clerk() -> Pid:
    pid = whereis("clerk")
    assert pid is not None
    return pid


# Access


@pytest.mark.parametrize(
    "token", ["", "short", None, f"{TOKEN}\n", "a token with spaces", "ü" * 20, lambda token: True]
)
def test_without_a_long_token_there_is_no_control(token: Any) -> None:
    with pytest.raises(InvalidOption) as refused:
        ChaosControl(token=token)
    assert refused.value.option == "token"


@pytest.mark.parametrize("token", [None, "", "another-token-for-the-tests", f"{TOKEN}x", "ü" * 20])
async def test_a_request_without_the_token_does_nothing(
    endpoint: Endpoint, token: str | None
) -> None:
    await shop()
    before = clerk()
    status, answer = await request(endpoint, "kill", {"target": "clerk"}, token=token)
    assert (status, list(answer)) == (401, ["problem"])
    assert is_alive(before)


async def test_a_request_other_than_post_gets_405(endpoint: Endpoint) -> None:
    assert (await request(endpoint, "ping", method="GET"))[0] == 405
    assert (await request(endpoint, "ping"))[0] == 200


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("nothing", b"{}", 404),
        ("ping", b"[]", 400),
        ("ping", b"{", 400),
        ("ping", b"\xff", 400),
        ("ping", b" " * (chaos_control.MAX_BODY + 1), 413),
        ("kill", b"{}", 400),
        ("kill", b'{"target": 7}', 400),
        ("restarts", b'{"seconds": -1}', 400),
        ("restarts", b'{"seconds": true}', 400),
        ("inject", b"{}", 400),
        ("inject", b'{"fault": {"type": "nothing"}}', 400),
        ("inject", b'{"fault": {"type": "kill", "target": "/x"}, "wait": "long"}', 400),
        ("inject", b'{"fault": {"type": "kill", "target": "/x"}, "wait": 301}', 400),
        (
            "inject",
            b'{"fault": {"type": "kill", "target": "/x", "when": {"type": "at", "seconds": 301}}}',
            400,
        ),
        ("check", b'{"check": "unknown"}', 404),
        ("kill", b'{"target": "nobody"}', 409),
    ],
)
async def test_a_wrong_request_gets_a_problem(
    endpoint: Endpoint, verb: str, body: bytes, status: int
) -> None:
    got, answer = await request(endpoint, verb, body=body)
    assert got == status
    assert answer["problem"]


async def test_two_endpoints_need_two_controls(endpoint: Endpoint, serve: Serve) -> None:
    (control,) = endpoint.plugs
    with pytest.raises(BaseException) as raised:
        await serve(Endpoint(sockets={"/socket": UserSocket}, plugs=[control]))
    assert "have the same ChaosControl" in str(raised.value)


# Actions


async def test_a_kill_by_name_or_path_ends_the_process_and_its_supervisor_restarts_it(
    endpoint: Endpoint,
) -> None:
    await shop()
    before = clerk()
    assert (await request(endpoint, "kill", {"target": "clerk"}))[0] == 200
    await trio.testing.wait_all_tasks_blocked()
    again = clerk()
    assert again is not before
    status, answer = await request(endpoint, "kill", {"target": "*/shop/clerk"})
    assert (status, answer["result"].endswith("/shop/clerk")) == (200, True)
    await trio.testing.wait_all_tasks_blocked()
    assert clerk() is not again
    assert (await request(endpoint, "restarts", {"seconds": 60}))[1] == {"result": 2}


async def test_a_repeated_request_gets_the_answer_again_and_does_nothing_else(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_control, "MAX_ANSWERS", 2)
    await shop()
    first = await request(endpoint, "kill", {"target": "clerk"}, key="1")
    await trio.testing.wait_all_tasks_blocked()
    again = clerk()
    assert await request(endpoint, "kill", {"target": "clerk"}, key="1") == first
    await trio.testing.wait_all_tasks_blocked()
    assert clerk() is again
    for key in ("2", "3"):
        assert (await request(endpoint, "kill", {"target": "nobody"}, key=key))[0] == 409
    # The control has forgotten the first key.
    await request(endpoint, "kill", {"target": "clerk"}, key="1")
    await trio.testing.wait_all_tasks_blocked()
    assert clerk() is not again


async def test_a_repetition_waits_for_the_action_that_still_runs(endpoint: Endpoint) -> None:
    await shop()
    before = clerk()
    fault = {"type": "kill", "target": "*/shop/clerk", "when": {"type": "at", "seconds": 2.0}}
    answers = []

    async def inject() -> None:
        answers.append(await request(endpoint, "inject", {"fault": fault}, key="1"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inject)
        await trio.sleep(1)
        nursery.start_soon(inject)
    assert answers[0] == answers[1]
    assert answers[0][0] == 200
    await trio.testing.wait_all_tasks_blocked()
    assert clerk() is not before
    assert (await request(endpoint, "restarts"))[1] == {"result": 1}


async def test_an_action_may_end_the_connection_of_its_own_request(serve: Serve) -> None:
    endpoint = endpoint_with(ChaosControl(token=TOKEN))
    server = await serve(endpoint)
    client = await server.accept()
    body = b'{"fault": {"type": "kill", "target": "*/endpoint/connections"}}'
    fields = f"host: test\r\nauthorization: Bearer {TOKEN}\r\nidempotency-key: 1\r\n"
    fields += f"content-length: {len(body)}\r\n"
    client.write(head(f"{PATH}/inject", fields).replace(b"GET", b"POST") + body)
    await settle()
    assert client.answer() is None
    fault = {"type": "kill", "target": "*/endpoint/connections"}
    status, answer = await request(endpoint, "inject", {"fault": fault}, key="1")
    assert (status, answer["result"]["seconds"]) == (200, 0.0)
    assert (await request(endpoint, "restarts"))[1] == {"result": 1}


async def test_a_suspended_server_handles_its_messages_after_the_resumption(
    endpoint: Endpoint,
) -> None:
    await shop()
    assert (await request(endpoint, "suspend", {"target": "clerk"}))[0] == 200
    cast("clerk", "one more")
    await trio.testing.wait_all_tasks_blocked()
    assert (await request(endpoint, "resume", {"target": "clerk"}))[0] == 200
    assert await call("clerk", "count") == 1
    status, answer = await request(endpoint, "suspend", {"target": "clerk", "timeout": 301})
    assert (status, answer["problem"]) == (400, "send at most 300 as 'timeout', and not 301")


async def test_a_fault_of_the_catalogue_is_applied(endpoint: Endpoint) -> None:
    await shop()
    before = clerk()
    fault = {"type": "exit_with", "target": "*/shop/clerk", "reason": "bored"}
    status, answer = await request(endpoint, "inject", {"fault": fault})
    assert (status, answer["result"]["seconds"]) == (200, 0.0)
    assert answer["result"]["where"].endswith("/shop/clerk#1")
    await trio.testing.wait_all_tasks_blocked()
    assert clerk() is not before


async def test_a_fault_without_a_target_is_refused_with_the_reason(endpoint: Endpoint) -> None:
    fault = {"type": "kill", "target": "/nowhere"}
    status, answer = await request(endpoint, "inject", {"fault": fault})
    assert status == 409
    assert "there was no such process at that time" in answer["problem"]


async def test_a_fault_whose_moment_does_not_come_is_withdrawn(
    endpoint: Endpoint,
) -> None:
    await shop()
    fault = {"type": "crash", "target": "*/shop/clerk"}
    began = trio.current_time()
    status, answer = await request(endpoint, "inject", {"fault": fault, "wait": 3})
    assert status == 409
    assert trio.current_time() - began == pytest.approx(3.0, abs=0.2)
    assert "no such callback began" in answer["problem"]
    assert await call("clerk", "count") == 0


async def test_a_lasting_fault_ends_after_its_duration_or_with_an_undo(
    endpoint: Endpoint,
) -> None:
    await shop()
    slow = {"type": "slow", "target": "*/shop/clerk", "seconds": 5.0}
    hang = {"type": "hang", "target": "*/shop/clerk"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request, endpoint, "inject", {"fault": slow})
        await trio.sleep(0.1)
        began = trio.current_time()
        assert await call("clerk", "count", timeout=60) == 0
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request, endpoint, "inject", {"fault": hang})
        await trio.sleep(0.1)
        cast("clerk", "one more")
        await trio.sleep(20)
        assert (await request(endpoint, "undo"))[1] == {"result": 1}
        assert await call("clerk", "count") == 1


async def test_every_fault_ends_after_max_seconds(
    serve: Serve,
) -> None:
    endpoint = endpoint_with(ChaosControl(token=TOKEN, max_seconds=10.0))
    await serve(endpoint)
    await shop()
    hang = {"type": "hang", "target": "*/shop/clerk"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request, endpoint, "inject", {"fault": hang})
        await trio.sleep(0.1)
        began = trio.current_time()
        assert await call("clerk", "count", timeout=60) == 0
        assert trio.current_time() - began == pytest.approx(10.0, abs=0.2)


async def test_the_number_of_faults_that_last_is_bounded(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_control, "MAX_FAULTS", 1)
    skew = {"fault": {"type": "skew_clock", "seconds": 5.0}}
    assert (await request(endpoint, "inject", skew))[0] == 200
    status, answer = await request(endpoint, "inject", skew)
    assert (status, "undo them first" in answer["problem"]) == (409, True)
    await request(endpoint, "undo")
    assert (await request(endpoint, "inject", skew))[0] == 200


async def test_a_recording_names_the_fault(endpoint: Endpoint, runtime: Runtime) -> None:
    await shop()
    recorder = FlightRecorder(runtime)
    fault = {"type": "kill", "target": "*/shop/clerk"}
    await request(endpoint, "inject", {"fault": fault})
    await trio.testing.wait_all_tasks_blocked()
    await request(endpoint, "kill", {"target": "clerk"})
    found = [json.loads(line) for line in recorder.lines()]
    assert [each["type"] for each in found if each["kind"] == "fault"] == ["kill", "kill"]
    recorder.close()


async def test_a_drain_needs_a_server_that_replaces_the_worker(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, signum: signals.append((pid, signum)))
    assert (await request(endpoint, "drain"))[0] == 409
    assert signals == []
    monkeypatch.setenv(WORKER, "3")
    assert (await request(endpoint, "drain"))[1] == {"result": "3", "worker": "3"}
    assert signals == [(os.getpid(), signal.SIGTERM)]


# Probes


async def test_the_owner_of_an_entity_is_the_node_that_runs_it(serve: Serve) -> None:
    shops = EntitySupervisor("shops", Shop)
    control = ChaosControl(token=TOKEN)
    endpoint = Endpoint(sockets={"/socket": UserSocket}, plugs=[control], children=[shops])
    await serve(endpoint)
    bakery = {"supervisor": "shops", "key": "bakery"}
    assert (await request(endpoint, "owner", bakery))[1] == {"result": None}
    await shops.start("bakery")
    assert (await request(endpoint, "owner", bakery))[1] == {"result": "local"}
    status, answer = await request(endpoint, "owner", {"supervisor": "banks", "key": "x"})
    assert (status, "no EntitySupervisor 'banks'" in answer["problem"]) == (404, True)


async def test_the_tree_is_whole_while_every_permanent_child_runs(endpoint: Endpoint) -> None:
    top = await shop()
    assert (await request(endpoint, "missing"))[1] == {"result": []}
    kill(clerk())
    _, answer = await request(endpoint, "missing")
    # The supervisor may have restarted the clerk before the probe. Otherwise the clerk is missing.
    assert all(path.endswith("/shop/clerk") for path in answer["result"])
    await trio.testing.wait_all_tasks_blocked()
    assert (await request(endpoint, "missing"))[1] == {"result": []}
    await Supervisor.terminate_child(top, "clerk")
    (path,) = (await request(endpoint, "missing"))[1]["result"]
    assert path.endswith("/shop/clerk")


async def test_a_transient_child_that_has_finished_is_not_missing(endpoint: Endpoint) -> None:
    top = await shop(restart="transient")
    await Supervisor.terminate_child(top, "clerk")
    assert (await request(endpoint, "missing"))[1] == {"result": []}


async def test_a_server_that_has_just_started_measures_its_lag_before_it_answers(
    endpoint: Endpoint,
) -> None:
    status, answer = await request(endpoint, "lag")
    assert (status, set(answer["result"])) == (200, {"median", "p99", "longest"})


async def test_the_lag_of_the_event_loop_is_measured(
    endpoint: Endpoint,
) -> None:
    await trio.sleep(1)
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    clock.jump(0.5)
    await trio.sleep(1)
    status, answer = await request(endpoint, "lag", {"seconds": 10})
    assert status == 200
    assert answer["result"]["median"] == pytest.approx(0.0, abs=0.01)
    assert answer["result"]["longest"] == pytest.approx(0.5, abs=0.06)


async def test_a_process_is_found_by_name_or_path(endpoint: Endpoint) -> None:
    await shop()
    for target, alive in (("clerk", True), ("*/shop/clerk", True), ("nobody", False)):
        assert (await request(endpoint, "alive", {"target": target}))[1] == {"result": alive}


async def test_the_clients_are_counted(serve: Serve) -> None:
    endpoint = endpoint_with(ChaosControl(token=TOKEN))
    server = await serve(endpoint)
    assert (await request(endpoint, "clients"))[1] == {"result": {"websocket": 0, "longpoll": 0}}
    await server.connect()
    assert (await request(endpoint, "clients"))[1]["result"]["websocket"] == 1


async def test_a_check_of_the_application_answers_with_its_problem(serve: Serve) -> None:
    async def late() -> str | None:
        await trio.sleep(3600)
        return None

    def broken() -> str | None:
        raise ValueError("no")

    checks: dict[str, Any] = {
        "holds": lambda: None,
        "fails": lambda: "2 of 3 are here",
        "broken": broken,
        "late": late,
        "odd": lambda: 3,
    }
    endpoint = endpoint_with(ChaosControl(token=TOKEN, checks=checks, check_timeout=0.01))
    await serve(endpoint)
    problems = {
        name: (await request(endpoint, "check", {"check": name}))[1]["result"] for name in checks
    }
    assert problems["holds"] is None
    assert problems["fails"] == "2 of 3 are here"
    assert problems["broken"] == "the check raised ValueError: no"
    assert problems["late"] == "the check took longer than 0.01 s"
    assert problems["odd"] == "the check returned 3; return None, or the problem as text"
