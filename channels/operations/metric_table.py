"""The metrics of a server: their names, types, labels and meanings, and the form in which workers exchange them.

*pure*. The names follow the conventions of Prometheus: base units, and `_total` for counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec
from attrs import frozen

__all__ = [
    "METRICS",
    "BoundedLabels",
    "Family",
    "Figure",
    "Metric",
    "Sample",
    "decode_families",
    "encode_families",
    "families_of",
    "merged",
]

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
"""The type of a metric."""

Figure: TypeAlias = tuple[str, Mapping[str, str], float]
"""A name, labels and a value, such as `Histogram.metrics` of `supervision.recording.reader.figures` yields."""


@frozen
class Metric:
    """The definition of a metric.

    Attributes:
        name: its name in Prometheus, with `_total` for a counter.
        kind: its type.
        labels: the names of its labels.
        help: its meaning, in one line.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _table(*rows: tuple[str, Kind, str, str]) -> Mapping[str, Metric]:
    return {
        name: Metric(f"ashtree_{name}", kind, tuple(labels.split()), text)
        for name, kind, labels, text in rows
    }


METRICS: Final = _table(
    # Clients
    (
        "connections",
        "gauge",
        "transport",
        "Open connections: websocket, http (pages and polls) or longpoll (sessions).",
    ),
    (
        "connects_total",
        "counter",
        "socket transport result",
        "Calls of `connect`, by result: ok or error.",
    ),
    ("connect_duration_seconds", "histogram", "socket", "Time of `connect`."),
    (
        "refusals_total",
        "counter",
        "socket reason",
        "Clients refused by origin, protocol, session or a crash. Other refusals of `connect` are in connects_total.",
    ),
    (
        "limited_clients_total",
        "counter",
        "limit",
        "Clients refused because of max_connections, max_internal_connections or max_sessions.",
    ),
    ("connections_closed_total", "counter", "code", "Ended connections, by WebSocket close code."),
    (
        "malformed_messages_total",
        "counter",
        "",
        "Connections closed because of a malformed message.",
    ),
    (
        "held_back_connections_total",
        "counter",
        "",
        "Connections whose many messages had to wait long.",
    ),
    (
        "rate_limited_connections_total",
        "counter",
        "limit",
        "Connections that reached a limit on messages or joins, by the option.",
    ),
    (
        "expired_connections_total",
        "counter",
        "",
        "Connections closed at their deadline.",
    ),
    (
        "out_buffer_overflows_total",
        "counter",
        "",
        "Connections closed because the client reads too slowly.",
    ),
    (
        "out_buffer_sheds_total",
        "counter",
        "",
        "Connections closed because too many bytes waited for all clients.",
    ),
    (
        "out_buffer_dropped_frames_total",
        "counter",
        "",
        "Frames dropped for these two reasons.",
    ),
    (
        "latest_replaced_values_total",
        "counter",
        "",
        "Values of broadcast_latest and push_latest that a newer value replaced before they were written.",
    ),
    (
        "latest_dropped_values_total",
        "counter",
        "",
        "Values of broadcast_latest and push_latest that did not fit into the bounds of a client.",
    ),
    (
        "incoming_sheds_total",
        "counter",
        "",
        "Connections and posts refused because incomplete messages took too much memory.",
    ),
    ("published_messages_total", "counter", "", "Messages that programs published over HTTP."),
    ("refused_publishes_total", "counter", "", "Refused requests to publish over HTTP."),
    (
        "longpoll_lost_messages_total",
        "counter",
        "reason",
        "Dropped messages of polling clients, by reason.",
    ),
    ("draining", "gauge", "", "1 after the server has stopped being ready, else 0."),
    # Channels
    ("channels", "gauge", "socket", "Joined channels, and channels whose `join` still runs."),
    (
        "joins_total",
        "counter",
        "channel result",
        "Joins, by result: ok or error. A crashed join counts as a crash.",
    ),
    ("join_duration_seconds", "histogram", "channel", "Time of `join`."),
    ("slow_joins_total", "counter", "channel", "Joins that took longer than `slow_join`."),
    ("channel_crashes_total", "counter", "channel", "Channels that ended with an error."),
    (
        "rejoin_duration_seconds",
        "histogram",
        "channel",
        "Time from the crash of a channel to its rejoin.",
    ),
    (
        "handle_in_duration_seconds",
        "histogram",
        "channel",
        "Time of push handlers that did not crash.",
    ),
    (
        "refused_payloads_total",
        "counter",
        "channel",
        "Payloads that did not match the type of their handler.",
    ),
    # Processes and supervisors
    ("processes", "gauge", "", "Living processes."),
    ("process_spawns_total", "counter", "", "Started processes."),
    ("crashed_processes_total", "counter", "", "Processes that an exception ended."),
    (
        "process_crashes_total",
        "counter",
        "exception",
        "The same, by the class of the exception.",
    ),
    ("process_zombies_total", "counter", "", "Processes that did not end when they were killed."),
    ("dead_letters_total", "counter", "", "Messages to processes that had ended."),
    ("late_answers_total", "counter", "", "Answers that came after their callers had given up."),
    ("mailbox_messages", "gauge", "", "Messages that wait in all mailboxes."),
    ("mailbox_longest_messages", "gauge", "", "Messages that wait in the fullest mailbox."),
    (
        "mailbox_alarms_total",
        "counter",
        "",
        "Mailboxes that grew over `mailbox_alarm`.",
    ),
    ("restarts_total", "counter", "supervisor", "Children that a supervisor restarted."),
    (
        "restart_duration_seconds",
        "histogram",
        "supervisor",
        "Time from the end of a child to its restart. Children of dynamic supervisors do not count.",
    ),
    ("failed_restarts_total", "counter", "supervisor", "Restarts that failed and are tried again."),
    (
        "supervisors_gave_up_total",
        "counter",
        "supervisor",
        "Supervisors that reached their limit of restarts.",
    ),
    (
        "event_loop_blocks_total",
        "counter",
        "",
        "Blocks of the event loop that the watchdog reported.",
    ),
    (
        "event_loop_blocked_seconds_total",
        "counter",
        "",
        "Seconds for which the event loop was blocked, until the watchdog reported each block.",
    ),
    # Several nodes
    ("pubsub_topics", "gauge", "", "Topics with subscribers on this node."),
    ("pubsub_subscriptions", "gauge", "", "Subscriptions on this node."),
    ("pubsub_nodes", "gauge", "", "Other nodes that this node hears."),
    ("pubsub_lost_messages_total", "counter", "", "Messages of other nodes that did not arrive."),
    (
        "pubsub_dropped_messages_total",
        "counter",
        "",
        "Messages for other nodes that were not sent.",
    ),
    (
        "pubsub_malformed_messages_total",
        "counter",
        "",
        "Malformed messages from the adapter.",
    ),
    (
        "pubsub_undeliverable_messages_total",
        "counter",
        "",
        "Messages that some clients could not get.",
    ),
    (
        "pubsub_disconnects_total",
        "counter",
        "",
        "Lost or failed connections of the adapter to its server.",
    ),
    # Histories of durable topics
    ("history_waiting_messages", "gauge", "history", "Messages that wait for the storage."),
    (
        "history_appended_messages_total",
        "counter",
        "history",
        "Messages that the storage has accepted.",
    ),
    (
        "history_failed_messages_total",
        "counter",
        "history",
        "Messages that the storage failed to store.",
    ),
    (
        "history_refused_messages_total",
        "counter",
        "history",
        "Messages refused because too many waited.",
    ),
    (
        "history_replayed_messages_total",
        "counter",
        "history",
        "Messages sent again to clients that were away.",
    ),
    (
        "history_gaps_total",
        "counter",
        "history",
        "Gaps that channels found in the messages that arrived.",
    ),
    (
        "history_lost_total",
        "counter",
        "history",
        "Channels that missed messages that the storage had dropped.",
    ),
    (
        "history_evicted_topics_total",
        "counter",
        "history",
        "Topics that the storage forgot because of its limits.",
    ),
    (
        "history_refused_fences_total",
        "counter",
        "history",
        "Claims and appends refused because of their fence.",
    ),
    (
        "history_forgotten_fences_total",
        "counter",
        "history",
        "Topics whose fence the storage forgot because of its limit.",
    ),
    # Entities
    (
        "entities_running",
        "gauge",
        "entities",
        "Entities that run on this node.",
    ),
    (
        "entities_waiting_requests",
        "gauge",
        "entities",
        "Requests that wait for an entity of this node.",
    ),
    (
        "entities_started_total",
        "counter",
        "entities",
        "Starts of entities.",
    ),
    (
        "entities_crashed_total",
        "counter",
        "entities",
        "Entities that crashed.",
    ),
    (
        "entities_failed_starts_total",
        "counter",
        "entities",
        "Entities whose `init` failed.",
    ),
    (
        "entities_idle_stops_total",
        "counter",
        "entities",
        "Entities that stopped after a time without messages.",
    ),
    (
        "entities_handed_over_total",
        "counter",
        "entities",
        "Entities that moved to another node.",
    ),
    (
        "entities_taken_over_total",
        "counter",
        "entities",
        "Entities that moved to this node.",
    ),
    (
        "entities_lost_handovers_total",
        "counter",
        "entities",
        "Handovers that the next node did not confirm.",
    ),
    (
        "entities_lost_leases_total",
        "counter",
        "entities",
        "Lost leases; each stops all entities of the node.",
    ),
    (
        "entities_remote_requests",
        "gauge",
        "entities",
        "Requests of this node that other nodes have.",
    ),
    (
        "entities_limited_requests_total",
        "counter",
        "entities limit",
        "Requests refused because of a limit, by the option.",
    ),
    (
        "entities_dropped_messages_total",
        "counter",
        "entities",
        "Casts and messages to entities that were not delivered.",
    ),
    (
        "entities_malformed_messages_total",
        "counter",
        "entities",
        "Messages of other nodes that this node did not understand.",
    ),
    # Presence
    ("presence_topics", "gauge", "presence", "Topics with members."),
    ("presence_members", "gauge", "presence", "Presences of all nodes."),
    ("presence_nodes_down", "gauge", "presence", "Nodes that are silent."),
    (
        "presence_failed_callbacks_total",
        "counter",
        "presence",
        "Failures of `fetch`, `handle_metas` and `counted`.",
    ),
    ("presence_refused_calls_total", "counter", "presence", "Calls beyond `max_calls_per_second`."),
    # The metrics themselves
    (
        "worker_up",
        "gauge",
        "",
        "With several workers: 1 if the worker answered this scrape, else 0.",
    ),
    (
        "folded_labels_total",
        "counter",
        "",
        'Label values that became "other", because there were too many.',
    ),
)
"""All metrics of Ashtree, by their names without `ashtree_`. docs/reference/metrics.md lists them too."""


class BoundedLabels:
    """The values of one label. After `limit` different values, all further values become "other".

    >>> labels = BoundedLabels(1)
    >>> labels.bounded("a"), labels.bounded("b"), labels.folded
    ('a', 'other', 1)
    """

    def __init__(self, limit: int) -> None:
        self.folded = 0
        self._limit = limit
        self._values: dict[str, None] = {}

    def bounded(self, value: str) -> str:
        """Return the value, or "other"."""
        if value in self._values:
            return value
        if len(self._values) < self._limit:
            self._values[value] = None
            return value
        self.folded += 1
        return "other"


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One line of an exposition: a name with its suffix, labels, and a value."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, array_like=True, frozen=True):
    """A metric with its samples. The name of a counter has no `_total`."""

    name: str
    help: str
    kind: str
    samples: list[Sample]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Family]).decode


def encode_families(families: Iterable[Family]) -> bytes:
    """Return the bytes that one worker sends to another."""
    return _encode(list(families))


def decode_families(data: bytes) -> list[Family]:
    """Read the bytes of another worker.

    Raises: msgspec.MsgspecError: the bytes are malformed.
    """
    return _decode(data)


def families_of(figures: Iterable[Figure]) -> list[Family]:
    """Group figures by their metric. The end of a name shows the type: `_total`, or `_bucket`, `_sum` and `_count`.

    >>> [
    ...     (each.name, each.kind)
    ...     for each in families_of([("lost_total", {}, 1.0), ("size", {}, 2.0)])
    ... ]
    [('lost', 'counter'), ('size', 'gauge')]
    """
    figures = list(figures)
    histograms = {
        name.removesuffix("_bucket") for name, _, _ in figures if name.endswith("_bucket")
    }
    found: dict[str, Family] = {}
    for name, labels, value in figures:
        base, kind = name, "gauge"
        of_histogram = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        if of_histogram in histograms:
            base, kind = of_histogram, "histogram"
        elif name.endswith("_total"):
            base, kind = name.removesuffix("_total"), "counter"
        family = found.setdefault(base, Family(base, base.replace("_", " "), kind, []))
        family.samples.append(Sample(name, dict(labels), value))
    return list(found.values())


def merged(workers: Mapping[str, Iterable[Family]]) -> list[Family]:
    """Join the families of several workers, with the label `worker` in each sample.

    >>> family = Family("up", "Up.", "gauge", [Sample("up", {}, 1.0)])
    >>> [sample.labels for sample in merged({"1": [family], "2": [family]})[0].samples]
    [{'worker': '1'}, {'worker': '2'}]
    """
    found: dict[str, Family] = {}
    for worker, families in workers.items():
        for family in families:
            there = found.setdefault(family.name, Family(family.name, family.help, family.kind, []))
            there.samples.extend(
                Sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
                for sample in family.samples
            )
    return list(found.values())
