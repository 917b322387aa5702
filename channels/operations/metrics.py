"""Metrics for Prometheus, on the internal port of the endpoint if it has one, and otherwise on its port.

    from channels.operations.metrics import Metrics

    endpoint = Endpoint(sockets={"/socket": UserSocket}, plugs=[Metrics(token=os.environ["METRICS_TOKEN"])])

Needs the library prometheus-client, which the extra `metrics` installs. docs/reference/metrics.md lists the metrics.
Your own metrics, and those of other libraries, appear too if they are in `metrics.registry`:

    jobs = prometheus_client.Counter("jobs", "Finished jobs.", registry=metrics.registry)

With several workers, a scrape reaches one worker. That worker asks the others, and each sample has the label `worker`.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import trio

from actors.arguments import check_whole
from actors.errors import CallExit, InvalidOption
from actors.instrumentation.logger import CRASH, MAILBOX_ALARM, ZOMBIE
from actors.instrumentation.telemetry import Event, Handler
from actors.process import current_pid
from actors.refs import Pid
from actors.runtime import in_runtime
from actors.watchdog import BLOCKED
from channels import telemetry as events
from channels.entities.supervisor import EntitySupervisor
from channels.errors import ChannelsError, MissingLibrary
from channels.operations.metric_table import (
    METRICS,
    BoundedLabels,
    Family,
    Figure,
    Sample,
    decode_families,
    encode_families,
    families_of,
    merged,
)
from channels.operations.recovery import Absences
from channels.operations.worker_figures import WorkerFigures
from channels.pubsub.adapter import WORKER, WORKERS_FOLDER
from channels.serving.plug import Plug
from channels.serving.services import Services
from channels.transports.asgi_responses import send_response
from channels.transports.asgi_stream import ASGIApplication, path_of
from supervision.child_spec import ChildSpec, process_spec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_TERMINATED,
    GAVE_UP,
)

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client import Metric as PrometheusMetric
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.process_collector import ProcessCollector
except ImportError as error:
    raise MissingLibrary("metrics", "prometheus-client") from error

if TYPE_CHECKING:
    from channels.operations.recorded_recovery import RecordedRecovery

__all__ = ["DEFAULT_BUCKETS", "Metrics"]

DEFAULT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the histograms of durations, in seconds."""

_Data: TypeAlias = Mapping[str, Any]
# The number of processes that a scrape reads between two checkpoints, so that the server still serves its clients.
_SLICE = 2000


class Metrics(Plug):
    """The metrics of one endpoint, for `Endpoint(plugs=[Metrics(token=...)])`.

    Args:
        token: the secret that a scrape sends as `Authorization: Bearer ...`. Other requests get 401. None lets everyone
            read the metrics. Choose None only if the endpoint has an internal port, or if a proxy hides the path from
            the public.
        path: the path, on the internal port if the endpoint has one, and otherwise on its port.
        buckets: the upper bounds of the histograms, in seconds.
        max_label_values: the largest number of different values of one label. Further values become "other", and a
            metric counts them.
        registry: the registry of prometheus-client; None makes one, with the figures of the operating system's process.
        figures: a function that yields further figures, as (name, labels, value), in each scrape; None yields none.

    Attributes:
        registry: the registry. Register your own metrics and collectors there.

    Raises:
        InvalidOption: an option is invalid.

    Figures about processes and supervisors cover the whole runtime. Other figures cover the endpoint. Counters
    begin at 0 when the program starts. A scrape costs about a microsecond for each process and label.

    If the runtime has a flight recorder, each scrape also contains the recovery figures of the recorder.
    """

    def __init__(
        self,
        *,
        token: str | None,
        path: str = "/metrics",
        buckets: Sequence[float] = DEFAULT_BUCKETS,
        max_label_values: int = 100,
        registry: CollectorRegistry | None = None,
        figures: Callable[[], Iterable[Figure]] | None = None,
    ) -> None:
        if token is not None and (not isinstance(token, str) or len(token) < 16):
            # Do not show the value, because it may be a real secret.
            raise InvalidOption(
                "Metrics", "token", "...", "a text of at least 16 characters, or None"
            )
        if not isinstance(path, str) or not path.startswith("/"):
            raise InvalidOption("Metrics", "path", path, 'a path with a slash: "/metrics"')
        check_whole("Metrics", "max_label_values", max_label_values)
        self._token = token
        self._path = path
        if registry is None:
            registry = CollectorRegistry(auto_describe=True)
            ProcessCollector(registry=registry)
        self.registry = registry
        self._figures = figures
        self._recovery: RecordedRecovery | None = None
        self._recorded = _Recorded(registry, buckets, max_label_values)
        self._services: Services | None = None
        self._others: WorkerFigures | None = None
        worker, folder = os.environ.get(WORKER), os.environ.get(WORKERS_FOLDER)
        self._worker = worker
        if worker and folder:
            self._others = WorkerFigures(Path(folder), worker, self._encoded)

    # The plug

    def attach(self, services: Services) -> Callable[[], None]:
        """Count the events of an endpoint.

        Raises:
            ChannelsError: this object counts for another endpoint.
        """
        if self._services is not None:
            raise ChannelsError(
                "two running endpoints have the same Metrics object; write Metrics(...) for each of them"
            )
        self._services = services
        detaches = self._recorded.attach(services)

        def detach() -> None:
            self._services = None
            for each in detaches:
                each()

        return detach

    def children(self, services: Services) -> Sequence[ChildSpec]:
        """Return the child spec of a process that answers other workers. The list is empty without other workers."""
        others = self._others
        return (
            []
            if others is None
            else [process_spec(others.serve, id="metrics", restart="transient")]
        )

    def find(self, scope: Any, services: Services) -> ASGIApplication | None:
        """Return the application for a scrape."""
        return partial(self._serve, services) if path_of(scope) == self._path else None

    # A scrape

    async def _serve(self, services: Services, scope: Any, receive: Any, send: Any) -> None:
        headers = {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}
        extra: dict[str, str] = {}
        if not self._may_read(headers.get(b"authorization", b"")):
            status, kind, body = 401, "text/plain", b"send the header Authorization: Bearer TOKEN"
            extra = {"www-authenticate": "Bearer"}
        elif scope["method"] not in {"GET", "HEAD"}:
            status, kind, body = 405, "text/plain", b"send GET"
        else:
            with in_runtime(services.runtime):
                families = await self._all_families()
            encode, kind = choose_encoder(headers.get(b"accept", b"").decode("latin-1"))
            status, body = 200, encode(_Exposition(families))
        answer = {"content-type": kind, "cache-control": "no-store", **extra}
        await send_response(send, status, body, answer)

    def _may_read(self, authorization: bytes) -> bool:
        if self._token is None:
            return True
        # Compare bytes: `compare_digest` does not accept text with characters outside ASCII.
        return hmac.compare_digest(authorization, f"Bearer {self._token}".encode())

    async def _all_families(self) -> list[Family]:
        own = await self._families()
        if self._others is None or self._worker is None:
            return own
        workers: dict[str, list[Family]] = {self._worker: [*own, _worker_up(1.0)]}
        for worker, answer in (await self._others.ask_all()).items():
            try:
                workers[worker] = [*decode_families(answer or b""), _worker_up(1.0)]
            except msgspec.MsgspecError:
                workers[worker] = [_worker_up(0.0)]
        return merged(workers)

    async def _encoded(self) -> bytes:
        return encode_families(await self._families())

    async def _families(self) -> list[Family]:
        """Return the figures of this process."""
        services = self._services
        gauges = [] if services is None else await _read(services)
        folded = _family("folded_labels_total", [((), float(self._recorded.folded))])
        own = [] if self._figures is None else list(self._figures())
        if services is not None:
            own += await self._recovery_figures(services, own)
        return [*gauges, folded, *map(_plain, self.registry.collect()), *families_of(own)]

    async def _recovery_figures(self, services: Services, own: list[Figure]) -> list[Figure]:
        """Return the recovery figures of the recorder. The list is empty without a recorder, or if `own` has some."""
        if not services.runtime.instruments:
            return []
        # A server without a recorder does not need this code, so it does not load it.
        from channels.operations.recorded_recovery import (  # noqa: PLC0415
            PREFIX,
            RecordedRecovery,
        )
        from supervision.recording.flight import recorder_of  # noqa: PLC0415

        recorder = recorder_of(services.runtime)
        if recorder is None or any(name.startswith(PREFIX) for name, _, _ in own):
            return []
        if self._recovery is None:
            self._recovery = RecordedRecovery()
        return await self._recovery.figures(recorder)


class _Exposition:
    """The families as a registry, for an encoder of prometheus-client."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[PrometheusMetric]:
        """Return the metrics."""
        for family in self._families:
            metric = PrometheusMetric(family.name, family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def _plain(metric: PrometheusMetric) -> Family:
    # Leave out the times of creation, which the text format of Prometheus does not have.
    samples = [
        Sample(each.name, dict(each.labels), float(each.value))
        for each in metric.samples
        if not each.name.endswith("_created")
    ]
    return Family(metric.name, metric.documentation, metric.type, samples)


def _family(name: str, samples: Iterable[tuple[tuple[str, ...], float]]) -> Family:
    """Return a family of `METRICS` with the values of its labels."""
    metric = METRICS[name]
    return Family(
        metric.name.removesuffix("_total"),
        metric.help,
        metric.kind,
        [
            Sample(metric.name, dict(zip(metric.labels, labels, strict=True)), value)
            for labels, value in samples
        ],
    )


def _worker_up(value: float) -> Family:
    return _family("worker_up", [((), value)])


# Metrics that events update


class _Recorded:
    """The counters and histograms that events fill."""

    def __init__(
        self, registry: CollectorRegistry, buckets: Sequence[float], max_values: int
    ) -> None:
        self._labels: dict[str, BoundedLabels] = {}
        self._max_values = max_values
        self._buckets = tuple(buckets)
        self._registry = registry
        self._metrics: dict[str, Any] = {}
        self._children = Absences[Pid]()
        self._channels = Absences[Pid]()
        # The histogram of a channel class, which every push needs.
        self._handled: dict[type, Any] = {}

    @property
    def folded(self) -> int:
        """The number of times that a label became "other"."""
        return sum(each.folded for each in self._labels.values())

    def _of(self, name: str, *values: object) -> Any:
        """Return the series of a metric of `METRICS`, for the values of its labels."""
        metric = METRICS[name]
        made = self._metrics.get(name)
        if made is None:
            if metric.kind == "histogram":
                made = Histogram(
                    metric.name,
                    metric.help,
                    metric.labels,
                    buckets=self._buckets,
                    registry=self._registry,
                )
            else:
                made = Counter(metric.name, metric.help, metric.labels, registry=self._registry)
            self._metrics[name] = made
        if not values:
            return made
        labels = [
            self._labels.setdefault(label, BoundedLabels(self._max_values)).bounded(str(value))
            for label, value in zip(metric.labels, values, strict=True)
        ]
        return made.labels(*labels)

    def attach(self, services: Services) -> list[Callable[[], None]]:
        """Attach to the telemetry of the endpoint. First show each known series with 0."""
        self._show_zeros(services)
        telemetry = services.runtime.telemetry

        def only(handler: Handler) -> Handler:
            def handle(event: Event, measured: _Data, about: _Data) -> None:
                if about["endpoint"] is services.endpoint:
                    handler(event, measured, about)

            return handle

        def ours(handler: Handler) -> Handler:
            def handle(event: Event, measured: _Data, about: _Data) -> None:
                if about["pubsub"] is services.pubsub:
                    handler(event, measured, about)

            return handle

        of_endpoint: dict[Event, Handler] = {
            events.SOCKET_CONNECTED: self._connected,
            events.CONNECTION_CLOSED: self._closed,
            events.CHANNEL_JOINED: self._joined,
            events.CHANNEL_CRASHED: self._channel_crashed,
            events.CHANNEL_JOIN_SLOW: self._slow_join,
            events.SOCKET_RATE_LIMITED: self._rate_limited,
            events.CONNECTION_REFUSED: self._not_admitted,
            events.CHANNEL_HANDLED_IN: self._handled_in,
            events.PAYLOAD_REFUSED: self._payload_refused,
            **dict.fromkeys(_REFUSALS, self._refused),
            **dict.fromkeys(_POLLS, self._polls_lost),
        }
        of_runtime: dict[Event, Handler] = {
            CRASH: self._crashed,
            CHILD_TERMINATED: self._child_ended,
            CHILD_STARTED: self._child_started,
            CHILD_RESTARTED: self._restarted,
            CHILD_START_FAILED: self._not_restarted,
            GAVE_UP: self._gave_up,
        }
        for event in (*_PLAIN, *_SUMS):
            if event[0] != "phoenix":
                of_runtime[event] = self._counted
            elif not event[1].startswith("pubsub"):
                of_endpoint[event] = self._counted
        of_pubsub = [event for event in (*_PLAIN, *_SUMS) if event[-1].startswith("pubsub")]
        return [
            *(telemetry.attach(event, only(handler)) for event, handler in of_endpoint.items()),
            *(telemetry.attach(event, ours(self._counted)) for event in dict.fromkeys(of_pubsub)),
            *(telemetry.attach(event, handler) for event, handler in of_runtime.items()),
        ]

    def _show_zeros(self, services: Services) -> None:
        """Show each counter whose labels are known with 0. The `rate` of a series does not contain its first value."""
        for name in ("crashed_processes_total", *_PLAIN.values(), *_SUMS.values()):
            self._of(name)
        for limit in (
            "max_connections",
            "max_internal_connections",
            "max_sessions",
        ):
            self._of("limited_clients_total", limit)
        for limit in ("max_messages_per_second", "max_joins_per_second"):
            self._of("rate_limited_connections_total", limit)
        # The supervisor of the endpoint attaches this object.
        supervisor = _name_of(current_pid())
        for name in ("restarts_total", "failed_restarts_total", "supervisors_gave_up_total"):
            self._of(name, supervisor)
        for kind in _POLLS.values():
            self._of("longpoll_lost_messages_total", kind)
        mounts = {
            "websocket": services.mounts.values(),
            "longpoll": services.longpolls.values(),
        }
        for transport, mounted in mounts.items():
            for mount in mounted:
                socket = mount.socket.__name__
                for result in ("ok", "error"):
                    self._of("connects_total", socket, transport, result)
                for reason in _REFUSALS.values():
                    self._of("refusals_total", socket, reason)
                for route in mount.router.routes:
                    self._show_channel(route.channel.__name__)

    def _show_channel(self, channel: str) -> None:
        for result in ("ok", "error"):
            self._of("joins_total", channel, result)
        for name in ("channel_crashes_total", "slow_joins_total", "refused_payloads_total"):
            self._of(name, channel)

    def _counted(self, event: Event, measured: _Data, about: _Data) -> None:
        """Count an event without labels, and add up its measurement."""
        name = _PLAIN.get(event)
        if name is not None:
            self._of(name).inc()
        name = _SUMS.get(event)
        if name is not None:
            self._of(name).inc(next(iter(measured.values())))

    def _connected(self, event: Event, measured: _Data, about: _Data) -> None:
        socket = about["user_socket"].__name__
        self._of("connects_total", socket, about["transport"], about["result"]).inc()
        self._of("connect_duration_seconds", socket).observe(measured["duration"])

    def _refused(self, event: Event, measured: _Data, about: _Data) -> None:
        self._of("refusals_total", about["socket"].__name__, _REFUSALS[event]).inc()

    def _not_admitted(self, event: Event, measured: _Data, about: _Data) -> None:
        self._of("limited_clients_total", about["limit"]).inc()

    def _rate_limited(self, event: Event, measured: _Data, about: _Data) -> None:
        self._of("rate_limited_connections_total", about["limit"]).inc()

    def _closed(self, event: Event, measured: _Data, about: _Data) -> None:
        self._channels.forget(about["pid"])
        code = about["code"]
        self._of("connections_closed_total", "none" if code is None else code).inc()

    def _joined(self, event: Event, measured: _Data, about: _Data) -> None:
        channel = type(about["channel"]).__name__
        self._of("joins_total", channel, about["result"]).inc()
        self._of("join_duration_seconds", channel).observe(measured["duration"])
        if len(self._channels) and about["result"] == "ok":
            topic, now = about["channel"].topic, trio.current_time()
            away = self._channels.end(about["connection"], topic, now)
            if away is not None:
                self._of("rejoin_duration_seconds", channel).observe(away)

    def _channel_crashed(self, event: Event, measured: _Data, about: _Data) -> None:
        self._of("channel_crashes_total", about["channel"].__name__).inc()
        self._channels.begin(about["connection"], about["topic"], trio.current_time())

    def _slow_join(self, event: Event, measured: _Data, about: _Data) -> None:
        self._of("slow_joins_total", type(about["channel"]).__name__).inc()

    def _handled_in(self, event: Event, measured: _Data, about: _Data) -> None:
        channel = type(about["channel"])
        series = self._handled.get(channel)
        if series is None:
            series = self._of("handle_in_duration_seconds", channel.__name__)
            self._handled[channel] = series
        series.observe(measured["duration"])

    def _payload_refused(self, event: Event, measured: _Data, about: _Data) -> None:
        self._of("refused_payloads_total", type(about["channel"]).__name__).inc()

    def _polls_lost(self, event: Event, measured: _Data, about: _Data) -> None:
        self._of("longpoll_lost_messages_total", _POLLS[event]).inc(measured["messages"])

    def _crashed(self, event: Event, measured: _Data, about: _Data) -> None:
        self._of("crashed_processes_total").inc()
        self._of("process_crashes_total", type(about["exception"]).__name__).inc()

    def _child_ended(self, event: Event, measured: _Data, about: _Data) -> None:
        # The children of a dynamic supervisor have no id.
        if about["id"] is not None:
            self._children.begin(about["supervisor"], about["id"], trio.current_time())

    def _child_started(self, event: Event, measured: _Data, about: _Data) -> None:
        """Forget the absence of a child that was stopped and then started again."""
        self._children.end(about["supervisor"], about["id"], trio.current_time())

    def _restarted(self, event: Event, measured: _Data, about: _Data) -> None:
        supervisor = about["supervisor"]
        name = _name_of(supervisor)
        self._of("restarts_total", name).inc()
        away = self._children.end(supervisor, about["id"], trio.current_time())
        if away is not None:
            self._of("restart_duration_seconds", name).observe(away)

    def _not_restarted(self, event: Event, measured: _Data, about: _Data) -> None:
        if about["restart"]:
            self._of("failed_restarts_total", _name_of(about["supervisor"])).inc()

    def _gave_up(self, event: Event, measured: _Data, about: _Data) -> None:
        self._of("supervisors_gave_up_total", _name_of(about["supervisor"])).inc()
        self._children.forget(about["supervisor"])


_PLAIN: dict[Event, str] = {
    events.SOCKET_MALFORMED: "malformed_messages_total",
    events.SOCKET_HELD_BACK: "held_back_connections_total",
    events.SOCKET_EXPIRED: "expired_connections_total",
    events.SOCKET_OVERFLOW: "out_buffer_overflows_total",
    events.SOCKET_SHED: "out_buffer_sheds_total",
    events.SOCKET_INCOMING_SHED: "incoming_sheds_total",
    events.PUBLISH_REFUSED: "refused_publishes_total",
    events.PUBSUB_MALFORMED: "pubsub_malformed_messages_total",
    events.PUBSUB_UNDELIVERABLE: "pubsub_undeliverable_messages_total",
    events.PUBSUB_DISCONNECTED: "pubsub_disconnects_total",
    ZOMBIE: "process_zombies_total",
    MAILBOX_ALARM: "mailbox_alarms_total",
    BLOCKED: "event_loop_blocks_total",
}
"""Counters of events. Their metrics have no labels."""

_SUMS: dict[Event, str] = {
    events.SOCKET_OVERFLOW: "out_buffer_dropped_frames_total",
    events.SOCKET_SHED: "out_buffer_dropped_frames_total",
    events.PUBLISH_ACCEPTED: "published_messages_total",
    events.PUBSUB_LOST: "pubsub_lost_messages_total",
    events.PUBSUB_DROPPED: "pubsub_dropped_messages_total",
    BLOCKED: "event_loop_blocked_seconds_total",
}
"""Sums of the only measurement of an event. Their metrics have no labels."""

_REFUSALS: dict[Event, str] = {
    events.SOCKET_ORIGIN_REFUSED: "origin",
    events.SOCKET_UNSUPPORTED: "protocol",
    events.SOCKET_SESSION_REFUSED: "session",
    events.SOCKET_CONNECT_FAILED: "crash",
}

_POLLS: dict[Event, str] = {
    events.LONGPOLL_LEFT_OUT: "left_out",
    events.LONGPOLL_UNSENDABLE: "unsendable",
    events.LONGPOLL_ANSWER_LOST: "answer_lost",
}


def _name_of(pid: Pid) -> str:
    process = pid.process
    return "ended" if process is None else process.describe()


# Metrics that a scrape reads


async def _read(services: Services) -> list[Family]:
    """Return the figures of this moment."""
    return [
        *await _clients(services),
        *await _processes(services),
        *_nodes(services),
        *_latest(services),
        *_histories(services),
        *_entities(services),
        *_presences(services),
    ]


async def _clients(services: Services) -> list[Family]:
    endpoint = services.endpoint
    pages = services.http.connections
    websockets = max(0.0, await _children(((endpoint, "connections"),)) - pages)
    polling = await _children(((endpoint, "sessions"),)) if services.longpolls else 0
    mounts = [*services.mounts.values(), *services.longpolls.values()]
    pools = {mount.socket.__name__: mount.pool_names for mount in mounts}
    return [
        _family(
            "connections",
            [(("websocket",), websockets), (("http",), pages), (("longpoll",), polling)],
        ),
        _family(
            "channels", [((socket,), await _children(names)) for socket, names in pools.items()]
        ),
        _family("draining", [((), float(services.admission.leaving))]),
    ]


async def _children(supervisors: Iterable[object]) -> float:
    count = 0
    for name in supervisors:
        try:
            count += (await DynamicSupervisor.count_children(name)).active
        except CallExit:
            # The process restarts, or the endpoint stops.
            continue
    return count


async def _processes(services: Services) -> list[Family]:
    figures = services.runtime.statistics()
    waiting = longest = 0
    for number, pid in enumerate(services.runtime.processes()):
        process = pid.process
        if process is not None:
            length = len(process.mailbox)
            waiting += length
            longest = max(longest, length)
        if number % _SLICE == _SLICE - 1:
            await trio.lowlevel.checkpoint()
    return [
        _family(name, [((), float(value))])
        for name, value in (
            ("processes", figures["processes"]),
            ("process_spawns_total", figures["spawned"]),
            ("dead_letters_total", figures["dead_letters"]),
            ("late_answers_total", figures["late_answers"]),
            ("mailbox_messages", waiting),
            ("mailbox_longest_messages", longest),
        )
    ]


def _nodes(services: Services) -> list[Family]:
    figures = services.pubsub.statistics()
    nodes = figures.get("adapter", {}).get("nodes", 0)
    return [
        _family("pubsub_topics", [((), figures["topics"])]),
        _family("pubsub_subscriptions", [((), figures["subscriptions"])]),
        _family("pubsub_nodes", [((), nodes)]),
    ]


def _latest(services: Services) -> list[Family]:
    figures = services.transports.latest.statistics()
    return [
        _family("latest_replaced_values_total", [((), figures.replaced)]),
        _family("latest_dropped_values_total", [((), figures.dropped)]),
    ]


_HISTORY = {
    "history_waiting_messages": "waiting",
    "history_appended_messages_total": "appended",
    "history_failed_messages_total": "failed",
    "history_refused_messages_total": "refused",
    "history_replayed_messages_total": "replayed",
    "history_gaps_total": "gaps",
    "history_lost_total": "lost",
    "history_evicted_topics_total": "evicted",
    "history_refused_fences_total": "fence_refused",
    "history_forgotten_fences_total": "fences_forgotten",
}

_ENTITIES = {
    "entities_running": "entities",
    "entities_waiting_requests": "waiting",
    "entities_started_total": "started",
    "entities_crashed_total": "crashed",
    "entities_failed_starts_total": "start_failed",
    "entities_idle_stops_total": "idle_stops",
    "entities_handed_over_total": "handed_over",
    "entities_taken_over_total": "taken_over",
    "entities_lost_handovers_total": "handovers_lost",
    "entities_lost_leases_total": "leases_lost",
    "entities_remote_requests": "remote_waiting",
    "entities_dropped_messages_total": "dropped",
    "entities_malformed_messages_total": "messages_refused",
}

_ENTITY_LIMITS = (
    "max_entities",
    "max_waiting",
    "max_request_bytes",
    "max_remote_waiting",
    "max_handover_bytes",
)

_PRESENCE = {
    "presence_topics": "topics",
    "presence_members": "presences",
    "presence_nodes_down": "nodes_down",
    "presence_failed_callbacks_total": "callbacks_failed",
    "presence_refused_calls_total": "calls_refused",
}


def _histories(services: Services) -> list[Family]:
    return _statistics(_HISTORY, services.endpoint.histories)


def _entities(services: Services) -> list[Family]:
    figures = {
        each.name: each.statistics()
        for each in services.endpoint.children
        if isinstance(each, EntitySupervisor)
    }
    if not figures:
        return []
    # A supervisor that does not run has no figures.
    limited = [
        ((name, limit), float(each.get(f"refused_{limit}", 0)))
        for name, each in figures.items()
        for limit in _ENTITY_LIMITS
    ]
    found = [
        _family(metric, [((name,), float(each.get(key, 0))) for name, each in figures.items()])
        for metric, key in _ENTITIES.items()
    ]
    return [*found, _family("entities_limited_requests_total", limited)]


def _presences(services: Services) -> list[Family]:
    return _statistics(_PRESENCE, services.endpoint.presences)


def _statistics(names: Mapping[str, str], owners: Iterable[Any]) -> list[Family]:
    figures = {owner.name: owner.statistics() for owner in owners}
    return [
        _family(
            metric, [((name,), float(each[key])) for name, each in figures.items() if key in each]
        )
        for metric, key in names.items()
        if figures
    ]
