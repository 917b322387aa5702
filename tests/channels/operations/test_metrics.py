"""Metrics: events change the right figures, and only a scrape with the token may read the figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from actors import Crash, InvalidOption, Pid, Reply, call, kill, send, send_exit, spawn
from actors.runtime import current_runtime
from actors.watchdog import BLOCKED
from channels import Channel, Draining, Endpoint, Mount, PushReply, Socket, handle_in
from channels.durable.history import History
from channels.entities import Entity, EntityBusy, EntitySupervisor
from channels.errors import ChannelsError
from channels.operations.metric_table import METRICS, BoundedLabels, Figure
from channels.operations.metrics import Metrics
from channels.operations.recorded_recovery import SETTLED_SECONDS
from channels.presence.presence import Presence
from channels.pubsub.adapter import WORKER, WORKERS_FOLDER
from supervision import Backoff, Supervisor, process_spec
from supervision.events import CHILD_RESTARTED
from supervision.recording.flight import FlightRecorder
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import Server, head, settle
from tests.channels.transports.frames import TEXT, client_frame
from tests.channels.trees import child

SOCKETS = {"/socket": UserSocket}
TOKEN = "0123456789abcdef"
ROOT = Path(__file__).parents[3]


class Echo(Channel):
    """A channel that answers pushes, and crashes on request."""

    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        await trio.sleep(0.02)
        return PushReply(payload)

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise LookupError("on purpose")


class EchoSocket(Socket):
    channels = {"echo:*": Echo}


class Counting(Entity):
    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(request)


class Scrape(dict[str, float]):
    """The samples of one scrape: name{label="value"} to value."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.help: dict[str, str] = {}
        for family in text_string_to_metric_families(text):
            self.help[family.name] = family.documentation
            for sample in family.samples:
                labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
                self[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value


async def request(endpoint: Endpoint, *, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": pairs}
    await endpoint(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


async def scrape(server: Server) -> Scrape:
    status, text = await request(server.endpoint)
    assert status == 200
    return Scrape(text)


async def test_connects_joins_pushes_and_crashes_are_counted(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": EchoSocket}, plugs=[Metrics(token=None)]))
    client = await server.connect()
    await client.join("echo:1")
    client.send(("1", "2", "echo:1", "echo"))
    await trio.sleep(0.1)
    client.send(("1", "3", "echo:1", "crash"))
    await settle()
    found = await scrape(server)
    assert found["ashtree_connections{transport=websocket}"] == 1
    assert found["ashtree_connects_total{result=ok,socket=EchoSocket,transport=websocket}"] == 1
    assert found["ashtree_joins_total{channel=Echo,result=ok}"] == 1
    assert found["ashtree_handle_in_duration_seconds_count{channel=Echo}"] == 1
    assert found["ashtree_handle_in_duration_seconds_bucket{channel=Echo,le=0.01}"] == 0
    assert found["ashtree_handle_in_duration_seconds_bucket{channel=Echo,le=0.025}"] == 1
    assert found["ashtree_process_crashes_total{exception=LookupError}"] == 1
    assert found["ashtree_channels{socket=EchoSocket}"] == 0


async def test_counters_appear_with_0_so_that_a_rate_contains_their_first_event(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets={"/socket": EchoSocket}, plugs=[Metrics(token=None)]))
    before = await scrape(server)
    client = await server.connect()
    await client.join("echo:1")
    client.send(("1", "3", "echo:1", "crash"))
    await settle()
    kill(await child(server.pid, "flusher"))
    await settle()
    after = await scrape(server)
    changed = {name for name in after if name.endswith("}") and after[name] != before.get(name)}
    counted = {name.partition("{")[0] for name in changed if "_total" in name}
    assert counted == {
        "ashtree_channel_crashes_total",
        "ashtree_connects_total",
        "ashtree_joins_total",
        "ashtree_process_crashes_total",
        "ashtree_restarts_total",
    }
    # The class of an exception is not known before.
    assert {name for name in changed if "_total" in name and name not in before} == {
        "ashtree_process_crashes_total{exception=LookupError}"
    }
    crashed = "ashtree_crashed_processes_total"
    assert (before[crashed], after[crashed]) == (0, 1)


async def test_gauges_follow_the_clients(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)]))
    clients = [await server.connect() for _ in range(3)]
    for client in clients:
        await client.join()
    found = await scrape(server)
    assert found["ashtree_connections{transport=websocket}"] == 3
    assert found["ashtree_channels{socket=UserSocket}"] == 3
    assert found["ashtree_pubsub_topics"] == 1
    assert found["ashtree_pubsub_subscriptions"] == 3
    clients[0].close()
    await settle()
    found = await scrape(server)
    assert found["ashtree_connections{transport=websocket}"] == 2
    assert found["ashtree_channels{socket=UserSocket}"] == 2
    assert found["ashtree_connections_closed_total{code=1000}"] == 1


async def test_connections_for_pages_are_no_websockets(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)]))
    await server.connect()
    reader = await server.accept()
    reader.write(head("/", "host: test\r\n"))
    await settle()
    found = await scrape(server)
    assert found["ashtree_connections{transport=websocket}"] == 1
    assert found["ashtree_connections{transport=http}"] == 1


async def test_restarts_are_counted_by_supervisor(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)]))
    restarted = server.listen(CHILD_RESTARTED)
    (flusher,) = [
        pid
        for pid in server.runtime.processes()
        if (info := server.runtime.process_info(pid)) and "Flusher" in str(info["label"])
    ]
    send_exit(flusher, Crash(OSError("broken")))
    await settle()
    assert len(restarted) == 1
    assert (await scrape(server))["ashtree_restarts_total{supervisor=endpoint}"] == 1


async def test_times_of_recovery_are_those_of_children_and_of_clients(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": EchoSocket}, plugs=[Metrics(token=None)]))

    async def slow() -> None:
        raise LookupError("on purpose")

    backoff = Backoff(2.0, 2.0)
    await Supervisor.start([process_spec(slow)], label="slow", backoff=backoff, max_restarts=2)
    client = await server.connect()
    await client.join("echo:1")
    await client.exchange(("1", "2", "echo:1", "crash"))
    await trio.sleep(3)
    await client.join("echo:1", "3")
    found = await scrape(server)
    assert found["ashtree_channel_crashes_total{channel=Echo}"] == 1
    assert found["ashtree_rejoin_duration_seconds_sum{channel=Echo}"] == 3
    assert found["ashtree_rejoin_duration_seconds_count{channel=Echo}"] == 1
    assert found["ashtree_restart_duration_seconds_sum{supervisor=slow}"] == 2
    await client.exchange(("3", "4", "echo:1", "phx_leave"))
    await client.join("echo:1", "5")
    found = await scrape(server)
    assert found["ashtree_rejoin_duration_seconds_count{channel=Echo}"] == 1


async def test_waiting_messages_are_added_up_and_the_longest_mailbox_is_shown(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)]))
    before = await scrape(server)
    one, other = spawn(trio.sleep_forever), spawn(trio.sleep_forever)
    for _ in range(5):
        send(one, "hello")
    send(other, "hello")
    after = await scrape(server)
    assert after["ashtree_mailbox_messages"] - before["ashtree_mailbox_messages"] == 6
    assert after["ashtree_mailbox_longest_messages"] == 5
    assert after["ashtree_processes"] - before["ashtree_processes"] == 2


async def test_a_client_that_reads_too_slowly_counts_with_its_dropped_frames(serve: Serve) -> None:
    endpoint = Endpoint(sockets=SOCKETS, max_buffered_messages=5, plugs=[Metrics(token=None)])
    server = await serve(endpoint)
    client = await server.connect()
    await client.join()
    for _ in range(20):
        endpoint.broadcast("room:a", "news", {})
    await settle()
    found = await scrape(server)
    assert found["ashtree_out_buffer_overflows_total"] == 1
    assert found["ashtree_out_buffer_dropped_frames_total"] > 0


async def test_a_client_with_too_large_an_incomplete_message_counts(serve: Serve) -> None:
    endpoint = Endpoint(sockets=SOCKETS, max_total_incoming_bytes=1000, plugs=[Metrics(token=None)])
    server = await serve(endpoint)
    client = await server.connect()
    client.write(client_frame(TEXT, b"x" * 2000)[:-1])
    await settle()
    assert (await scrape(server))["ashtree_incoming_sheds_total"] == 1


async def test_rate_limited_connections_count_once_for_each_limit(serve: Serve) -> None:
    slow = Mount(EchoSocket, max_messages_per_second=0.1)
    server = await serve(Endpoint(sockets={"/socket": slow}, plugs=[Metrics(token=None)]))
    client = await server.connect()
    await client.join("echo:1")
    for _ in range(4):
        await client.exchange(("1", "2", "echo:1", "echo"))
    found = await scrape(server)
    name = "ashtree_rate_limited_connections_total{limit=max_messages_per_second}"
    assert found[name] == 1


async def test_refusals_name_their_reason(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)]))
    client = await server.accept()
    client.write(head("/socket/websocket?vsn=9.0.0"))
    await settle()
    found = await scrape(server)
    assert found["ashtree_refusals_total{reason=protocol,socket=UserSocket}"] == 1


async def test_histories_and_presences_appear_by_name() -> None:
    endpoint = Endpoint(
        sockets=SOCKETS,
        presences=[Presence(name="online")],
        histories=[History(name="news")],
        plugs=[Metrics(token=None)],
    )
    async with endpoint.running():
        await endpoint.histories[0].append("news:1", "added", {})  # type: ignore[attr-defined]
        found = Scrape((await request(endpoint))[1])
    assert found["ashtree_history_appended_messages_total{history=news}"] == 1
    assert found["ashtree_history_lost_total{history=news}"] == 0
    assert found["ashtree_presence_members{presence=online}"] == 0


async def test_entities_appear_by_the_name_of_their_supervisor() -> None:
    counters = EntitySupervisor("counters", Counting, max_entities=2)
    endpoint = Endpoint(sockets=SOCKETS, children=[counters], plugs=[Metrics(token=None)])
    async with endpoint.running():
        for key in ("a", "b", "b"):
            await call(counters.via(key), 1, timeout=1.0)
        with pytest.raises(EntityBusy):
            await call(counters.via("c"), 1, timeout=1.0)
        await counters.stop("b")
        found = Scrape((await request(endpoint))[1])
    assert found["ashtree_entities_started_total{entities=counters}"] == 2
    assert found["ashtree_entities_running{entities=counters}"] == 1
    assert found["ashtree_entities_handed_over_total{entities=counters}"] == 0
    refused = "ashtree_entities_limited_requests_total{{entities=counters,limit={}}}"
    assert found[refused.format("max_entities")] == 1
    assert found[refused.format("max_waiting")] == 0


async def test_a_blocked_event_loop_counts_with_its_seconds(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)]))
    server.runtime.telemetry.execute(BLOCKED, {"seconds": 0.75}, {})
    found = await scrape(server)
    assert found["ashtree_event_loop_blocks_total"] == 1
    assert found["ashtree_event_loop_blocked_seconds_total"] == 0.75


async def test_an_endpoint_that_leaves_shows_it(serve: Serve) -> None:
    server = await serve(
        Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)], draining=Draining(notice=5.0))
    )
    assert (await scrape(server))["ashtree_draining"] == 0
    spawn(server.stop)
    await settle()
    assert (await scrape(server))["ashtree_draining"] == 1


async def test_without_the_token_nothing_is_shown(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=TOKEN)]))
    for value in ("", "Bearer wrong", f"Bearer {TOKEN}x", f"bearer {TOKEN}", "Bearer ü"):
        status, text = await request(server.endpoint, authorization=value)
        assert status == 401
        assert "ashtree" not in text
    status, text = await request(server.endpoint, authorization=f"Bearer {TOKEN}")
    assert status == 200
    assert "ashtree_connections" in text


async def test_prometheus_gets_the_format_that_it_asks_for(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)]))
    _, text = await request(server.endpoint, accept="application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")


async def test_metrics_of_the_application_appear_too(serve: Serve) -> None:
    metrics = Metrics(token=None)
    prometheus_client.Counter("jobs", "Finished jobs.", registry=metrics.registry).inc(3)
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[metrics]))
    assert (await scrape(server))["jobs_total"] == 3


async def test_figures_of_recovery_appear_as_what_they_are(serve: Serve) -> None:
    def figures() -> list[Figure]:
        return [
            ("ashtree_recovery_restarts_total", {"child": "/shop/store"}, 3.0),
            ("ashtree_recovery_restarted_seconds_bucket", {"le": "1.0"}, 2.0),
            ("ashtree_recovery_restarted_seconds_bucket", {"le": "+Inf"}, 3.0),
            ("ashtree_recovery_restarted_seconds_sum", {}, 4.5),
            ("ashtree_recovery_restarted_seconds_count", {}, 3.0),
        ]

    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None, figures=figures)]))
    status, text = await request(server.endpoint)
    assert "# TYPE ashtree_recovery_restarts_total counter" in text
    assert "# TYPE ashtree_recovery_restarted_seconds histogram" in text
    found = Scrape(text)
    assert found["ashtree_recovery_restarts_total{child=/shop/store}"] == 3
    assert found["ashtree_recovery_restarted_seconds_bucket{le=1.0}"] == 2
    assert status == 200


async def test_the_recovery_figures_of_a_recorder_appear_without_a_setting(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)]))
    assert not any(name.startswith("ashtree_recovery") for name in await scrape(server))
    FlightRecorder(current_runtime())
    shop = await Supervisor.start([process_spec(trio.sleep_forever, id="till")], label="shop")
    assert (await scrape(server))["ashtree_recovery_incidents_total"] == 0
    (till,) = await Supervisor.which_children(shop)
    assert isinstance(till.pid, Pid)
    kill(till.pid)
    await trio.sleep(SETTLED_SECONDS + 1)
    # The incident counts only once, although there are two scrapes.
    for _ in range(2):
        found = await scrape(server)
        assert found["ashtree_recovery_incidents_total"] == 1
        assert found["ashtree_recovery_restarts_total{child=/shop/till}"] == 1
        assert found["ashtree_recovery_restarted_seconds_count"] == 1


async def test_recovery_figures_of_the_user_replace_those_of_the_recorder(serve: Serve) -> None:
    def figures() -> list[Figure]:
        return [("ashtree_recovery_incidents_total", {}, 7.0)]

    server = await serve(Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None, figures=figures)]))
    FlightRecorder(current_runtime())
    found = await scrape(server)
    assert found["ashtree_recovery_incidents_total"] == 7
    assert "ashtree_recovery_messages_lost_total" not in found


async def test_counters_go_on_when_the_endpoint_starts_again(serve: Serve) -> None:
    endpoint = Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)])
    server = await serve(endpoint)
    (await server.connect()).end()
    await server.stop()
    server = await serve(endpoint)
    (await server.connect()).end()
    found = await scrape(server)
    assert found["ashtree_connects_total{result=ok,socket=UserSocket,transport=websocket}"] == 2


async def test_one_object_counts_for_one_endpoint(serve: Serve) -> None:
    metrics = Metrics(token=None)
    await serve(Endpoint(sockets=SOCKETS, plugs=[metrics]))
    with pytest.raises(Exception, match="two running endpoints") as caught:
        await serve(Endpoint(sockets=SOCKETS, plugs=[metrics]))
    assert caught.value is not None


async def test_channels_of_one_socket_at_two_paths_count_once(serve: Serve) -> None:
    sockets: dict[str, type[Socket] | Mount] = {
        "/a": Mount(UserSocket, longpoll=True),
        "/b": UserSocket,
    }
    server = await serve(Endpoint(sockets=sockets, plugs=[Metrics(token=None)]))
    await (await server.connect("/a")).join()
    await (await server.connect("/b")).join()
    found = await scrape(server)
    assert found["ashtree_channels{socket=UserSocket}"] == 2
    assert found["ashtree_connections{transport=longpoll}"] == 0


async def test_workers_show_the_figures_of_all_and_who_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKERS_FOLDER, str(tmp_path))
    monkeypatch.setenv(WORKER, "1")
    one = Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)])
    monkeypatch.setenv(WORKER, "2")
    two = Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)])
    async with one.running():
        async with two.running():
            await settle()
            (tmp_path / "figures-3.sock").touch()
            found = Scrape((await request(one))[1])
        assert not (tmp_path / "figures-2.sock").exists()
    assert [found[f"ashtree_worker_up{{worker={n}}}"] for n in (1, 2, 3)] == [1, 1, 0]
    assert found["ashtree_connections{transport=websocket,worker=2}"] == 0


def test_labels_beyond_the_limit_become_other_and_are_counted() -> None:
    labels = BoundedLabels(2)
    assert [labels.bounded(each) for each in "abcabd"] == ["a", "b", "other", "a", "b", "other"]
    assert labels.folded == 2


@pytest.mark.parametrize(
    "options",
    [{"token": "short"}, {"token": 7}, {"path": "metrics"}, {"max_label_values": 0}],
)
def test_an_invalid_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as caught:
        Metrics(**{"token": None, **options})
    assert "short" not in str(caught.value)


def test_the_reference_page_lists_every_metric_as_the_code_does() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text().partition("## Recovery")[0]
    rows = re.findall(r"^- `(ashtree_\w+)(?:\{(.*)\})?`: (.*)$", page, re.MULTILINE)
    assert rows == [(each.name, ", ".join(each.labels), each.help) for each in METRICS.values()]


def test_the_end_of_a_name_shows_its_type_as_the_reference_page_says() -> None:
    ends = {"_total": "counter", "_seconds": "histogram"}
    for metric in METRICS.values():
        found = [kind for end, kind in ends.items() if metric.name.endswith(end)]
        assert found == ([] if metric.kind == "gauge" else [metric.kind]), metric


def test_names_follow_the_conventions_of_prometheus() -> None:
    for metric in METRICS.values():
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric
        assert re.fullmatch(r"[a-z][a-z_]*", metric.name)
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds")


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "channels.operations.metrics")
    with pytest.raises(ChannelsError, match=r"pip install prometheus-client"):
        importlib.import_module("channels.operations.metrics")
