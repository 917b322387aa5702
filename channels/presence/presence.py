"""Presence: the users of each topic, on all nodes.

    presence = Presence()
    endpoint = Endpoint(sockets={"/socket": UserSocket}, presences=[presence])

    class RoomChannel(Channel):
        async def join(self, topic, payload):
            send(current_pid(), "after join")       # a channel pushes only after its join was answered

        async def handle_info(self, message):
            presence.track(self, self.assigns["user"], {"status": "here"})
            await presence.push_state(self)

A channel tracks itself under a key, such as the id of its user. The presence ends with the channel's process. Clients
get `presence_state` and `presence_diff`, as the class `Presence` of phoenix.js expects them.

Reads use a snapshot and never wait. Source: Phoenix.Presence 1.8. `docs/topics/differences.md`
lists the differences.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import trio

from actors.arguments import check_number, check_pid, check_positive, check_whole
from actors.errors import InvalidArgument, InvalidOperation, InvalidOption, StartIgnored
from actors.instrumentation.telemetry import Event
from actors.process import current_pid, on_exit
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from actors.text import brief
from channels.channel import Channel, connection_of
from channels.errors import EncodeError
from channels.presence import logger
from channels.presence.announcer import Presences, announce, everybody, fetched
from channels.presence.delta import Meta
from channels.presence.generations import DEFAULT_MAX_SIZES, Generations
from channels.presence.replica import DOWN_PERIOD, PERMDOWN_PERIOD
from channels.presence.roster import Counting, Limits, TooManyCalls
from channels.presence.snapshot import NO_MEMBERS, Snapshot
from channels.presence.state import NotTracked
from channels.presence.tracker import Tracker, Tracking, gossip_topic
from channels.presence.wire import MAX_NAME, MAX_TEXT
from channels.pubsub.local import dispatch
from channels.pubsub.pubsub import Dispatcher, PubSub
from channels.serializers.json_values import explain
from channels.telemetry import (
    PRESENCE_CALLBACK_FAILED,
    PRESENCE_CALLS_REFUSED,
    PRESENCE_STARTED,
)
from supervision.child_spec import ChildSpec, process_spec
from supervision.supervisor import Supervisor

__all__ = ["Presence"]

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode

MOST_META_BYTES = 256 * 1024
"""The highest `max_meta_bytes`: a message with such metadata must fit into an envelope between nodes."""


class Presence:
    """Everybody who is present in the topics of an application.

        class Online(Presence):
            async def fetch(self, topic, presences):
                users = await load_users(presences)
                return {key: {**entry, "user": users[key]} for key, entry in presences.items()}

        online = Online()
        endpoint = Endpoint(sockets={"/socket": UserSocket}, presences=[online])

    Create one presence for an application, and give it to the endpoint. Without an endpoint, put `child_spec(pubsub)`
    under your supervisor.

    Args:
        name: the same on every node, and unique among the presences of a PubSub. By default the name of the class.
        leave_grace: seconds that a presence stays after its channel has ended or its node has stopped. If the same key
            joins again in that time, on any node, clients see an update. `untrack` does not wait. 0 is Phoenix's
            behaviour. Set the same value on every node.
        interval: seconds between two diffs of a topic. The first goes out at once, the next with all later changes.
        heartbeat: seconds between two heartbeats to other nodes.
        down_period: seconds without a heartbeat after which the presences of another node are hidden.
        permdown_period: seconds without a heartbeat after which another node is forgotten.
        counted: returns True for a topic whose clients get only a count, in `presence_diff`.
        counted_from: the number of keys from which clients get only a count; None for no limit. They get a list again
            below three quarters of it.
        callback_timeout: seconds that `fetch` or `handle_metas` may take for one diff.
        max_fetches: topics for which `fetch` runs at a time. The diffs of further topics wait.
        max_calls_per_second: calls of `track` and `update` by one client, over all its channels, or by one other
            process. Further calls raise TooManyCalls.
        max_meta_bytes: the largest metadata of one presence, as JSON; up to `MOST_META_BYTES`.
        max_delta_sizes: the numbers of recent changes of each node to keep for nodes that missed some.
        dispatcher: delivers diffs on this node, as for `PubSub.broadcast`.

    Raises:
        InvalidOption: an option has an invalid value.
        InvalidArgument: a callback is not async.

    Each node tracks its own processes, and sends the changes to other nodes within moments. Two nodes that lose contact
    show each other's presences for `down_period`, and again once they reconnect.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        leave_grace: float = 0.0,
        interval: float = 0.05,
        heartbeat: float = 1.5,
        down_period: float = DOWN_PERIOD,
        permdown_period: float = PERMDOWN_PERIOD,
        counted: Callable[[str], bool] = lambda topic: False,
        counted_from: int | None = None,
        callback_timeout: float = 5.0,
        max_fetches: int = 10,
        max_calls_per_second: float = 100.0,
        max_meta_bytes: int = 16 * 1024,
        max_delta_sizes: Sequence[int] = DEFAULT_MAX_SIZES,
        dispatcher: Dispatcher = dispatch,
    ) -> None:
        owner = type(self).__name__
        self.name = owner if name is None else name
        if not isinstance(self.name, str) or not self.name:
            raise InvalidOption(owner, "name", name, "text that is the same on every node")
        _check_times(
            owner,
            instants={"leave_grace": leave_grace, "interval": interval},
            heartbeat=heartbeat,
            down_period=down_period,
            permdown_period=permdown_period,
            callback_timeout=callback_timeout,
        )
        _check_sizes(owner, max_calls_per_second, max_fetches, max_meta_bytes, counted_from)
        _check_async(self)
        Generations(max_delta_sizes)
        self.fetches = type(self).fetch is not Presence.fetch
        self.handles_metas = type(self).handle_metas is not Presence.handle_metas
        self.callback_timeout = callback_timeout
        self.max_fetches = max_fetches
        self.dispatcher = dispatcher
        self._interval = interval
        self._heartbeat = heartbeat
        self._limits = Limits(
            leave_grace=leave_grace,
            max_calls_per_second=max_calls_per_second,
            down_period=down_period,
            permdown_period=permdown_period,
            max_delta_sizes=max_delta_sizes,
        )
        self._counted = counted
        self._counted_from = counted_from
        self._max_meta_bytes = max_meta_bytes
        self._runtime: Runtime | None = None
        # The present run; and the latest run, which continues if its supervisor restarts.
        self._tracking: Tracking | None = None
        self._latest: Tracking | None = None

    def __repr__(self) -> str:
        return f"<presence {self.name}>"

    # Callbacks of the application

    async def fetch(self, topic: str, presences: Presences, /) -> Presences:
        """Add data to presences before clients get them, in one step for all of them. See the example of the class.

        Args:
            topic: the topic of the presences.
            presences: keys and their metas: `{"ann": {"metas": [...]}}`. Never empty.

        Returns:
            The presences, with more entries beside `metas`, or with fewer keys. Each meta must keep its `phx_ref`. The
            default changes nothing.

        It runs once for the joins and once for the leaves of a diff. `list`, `get_by_key` and `push_state` run it in
        the process of their caller. It does not run for a diff that no client of this node needs.

        If it raises or takes longer than `callback_timeout`, clients do not get that diff. Instead of the next diff,
        they get the whole topic. Ashtree logs and counts the failure. In Phoenix, the channels of everybody tracked
        would crash.
        """
        return presences

    async def init(self) -> Any:
        """Return the first state for `handle_metas`. If it raises, the presence does not start."""
        return None

    async def handle_metas(
        self, topic: str, diff: Mapping[str, Presences], presences: Snapshot, state: Any
    ) -> Any:
        """React to a diff on this node, after clients have got it. Return the new state.

            async def handle_metas(self, topic, diff, presences, state):
                for key in diff["joins"]:
                    if len(presences[key]) == 1:
                        notify(f"{key} has come online")
                return state

        Args:
            topic: the topic.
            diff: its `joins` and `leaves`, as `fetch` returned them.
            presences: everybody in the topic after this diff: keys and their metas.
            state: the result of `init`, or of the previous call.

        Calls do not overlap. If a call raises or takes longer than `callback_timeout`, the state stays, and Ashtree
        logs and counts the failure. A diff whose `fetch` failed is left out.
        """
        return state

    # Starting

    async def start_link(self, pubsub: PubSub) -> Pid:
        """Start the processes of this node on `pubsub`, and return the supervisor's pid. An endpoint calls this.

        If the supervisor of a running presence ends and starts again, the presences of all living processes stay.

        Raises:
            InvalidOperation: the processes run already, or another presence of this PubSub has the same name.
        """
        self._check_not_running()
        latest = self._latest if self._runtime is current_runtime() else None
        if latest is not None:
            await latest.wait_ended()
        if pubsub.subscribers(gossip_topic(self.name)):
            raise InvalidOperation(
                "Presence.start_link",
                f"another presence with the name {self.name!r} runs on {pubsub!r}; write Presence(name=...)",
            )
        if len(pubsub.node_name) > MAX_NAME:
            raise InvalidOperation(
                "Presence.start_link",
                f"the node name {brief(pubsub.node_name)} has {len(pubsub.node_name)} characters; the limit for "
                f"presence is {MAX_NAME}",
            )
        if (
            latest is not None
            and latest.pubsub is pubsub
            and latest.roster.state.node == pubsub.node_name
        ):
            # The channels still run, and they do not track themselves again.
            tracking = latest
        else:
            tracking = await self._begin(pubsub)
        children = [
            ChildSpec("presence", self._hold, (tracking,), restart="temporary"),
            ChildSpec("tracker", Tracker.start_link, (tracking,)),
            process_spec(announce, tracking, self, id="announcer"),
        ]
        return await Supervisor.start_link(children, label=f"presence {self.name}")

    def _check_not_running(self) -> None:
        if self._tracking is not None:
            raise InvalidOperation(
                "Presence.start_link",
                f"{self!r} is running already; make another one, with another name, for another endpoint",
            )

    async def _begin(self, pubsub: PubSub) -> Tracking:
        self._runtime = current_runtime()
        tracking = Tracking.begin(
            pubsub,
            self.name,
            self._limits,
            counting=Counting(self._is_always_counted, self._counted_from),
            heartbeat=self._heartbeat,
            interval=self._interval,
            execute=self._execute,
        )
        tracking.metas_state = await self.init()
        return tracking

    def child_spec(self, pubsub: PubSub) -> ChildSpec:
        """Return a child spec on `pubsub`. In your supervisor, put it before the processes that the presence tracks."""
        return ChildSpec(f"presence {self.name}", self.start_link, (pubsub,), type="supervisor")

    async def _hold(self, tracking: Tracking) -> Pid:
        """Run until the supervisor ends. This runs in the supervisor's process, and starts none."""
        # Another start may have overtaken this one while `init` ran.
        self._check_not_running()
        detach = logger.attach(current_runtime().telemetry, self)
        self._tracking = self._latest = tracking
        about = {"tracking": tracking, "limits": self._limits}
        self._execute(PRESENCE_STARTED, {}, about)

        def ended() -> None:
            self._tracking = None
            detach()

        on_exit(ended)
        raise StartIgnored

    def _is_always_counted(self, topic: str) -> bool:
        try:
            return self._counted(topic)
        except Exception as error:  # a count is the answer whose size is bounded
            if self._latest is not None:
                self._latest.counts["callbacks_failed"] += 1
            about = {"callback": "counted", "topic": topic, "exception": error}
            self._execute(PRESENCE_CALLBACK_FAILED, {}, about)
            return True

    def _execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        if self._runtime is not None:
            about = {"presence": self, **metadata}
            self._runtime.telemetry.execute(event, measurements, about)

    def _running(self, verb: str) -> Tracking:
        tracking = self._tracking
        if tracking is None:
            raise InvalidOperation(
                f"Presence.{verb}",
                f"{verb}() was called on {self!r}, which is not running; write Endpoint(presences=[...]), or put its "
                "child_spec under your supervisor",
            )
        current_runtime().require_thread(f"Presence.{verb}")
        return tracking

    # Tracking

    def track(
        self,
        where: Channel | str,
        key: str | int,
        meta: Mapping[str, Any] | None = None,
        *,
        pid: Pid | None = None,
    ) -> str:
        """Track a process under a key.

            presence.track(self, user.id, {"device": "phone"})          # in a channel
            presence.track("room:lobby", user.id, pid=pid)

        Args:
            where: a channel, for its topic; or a topic.
            key: the key. A number becomes text.
            meta: its metadata, a JSON object, of which the presence keeps a copy. Entries named `phx_ref` and
                `phx_ref_prev` are left out.
            pid: a process of this node; by default the current one. The presence ends with it.

        Returns:
            The `phx_ref` of the metadata, which is new for each change.

        Raises:
            AlreadyTracked: the process tracks this key of this topic already, with other metadata.
            EncodeError: JSON cannot express the metadata, the key or the topic; or one of them is too large.
            TooManyCalls: the client, or the process, makes more than `max_calls_per_second`.
            InvalidOperation: the presence is not running.
            InvalidArgument: `pid` is not a pid.
            WrongThread: this is not the thread of the runtime, or `pid` belongs to another runtime.

        The presence is in `list` and `snapshot` of this node when the call returns.
        """
        tracking = self._running("track")
        topic, name = _names(where, key, "track")
        data = self._checked(topic, meta, "track")
        owner = _owner("track", pid)
        self._count_call(tracking, where, owner)
        known = tracking.roster.state.get(topic, name, owner=owner)
        if known is not None and _without_refs(known.meta) == data:
            return str(known.meta["phx_ref"])
        ref = _new_ref(tracking)
        tracking.roster.track(owner, topic, name, {**data, "phx_ref": ref})
        tracking.watch(owner)
        return ref

    def update(
        self,
        where: Channel | str,
        key: str | int,
        meta: Mapping[str, Any] | Callable[[Meta], Mapping[str, Any]],
        *,
        pid: Pid | None = None,
    ) -> str:
        """Replace the metadata of a presence. Clients see one diff: the new metadata in joins, the old in leaves.

            presence.update(self, user.id, {"device": "phone", "typing": True})
            presence.update(self, user.id, lambda meta: {**meta, "typing": True})

        Args:
            where: a channel, for its topic; or a topic.
            key: the key.
            meta: the new metadata, or a function of the present metadata. Equal metadata sends no diff.
            pid: the process; by default the current one.

        Returns:
            The `phx_ref`. The metadata also gets `phx_ref_prev`, the previous `phx_ref`.

        Raises:
            NotTracked: the process does not track this key of this topic.
            EncodeError, TooManyCalls, InvalidOperation, InvalidArgument, WrongThread: as `track` does.
        """
        tracking = self._running("update")
        topic, name = _names(where, key, "update")
        owner = _owner("update", pid)
        entry = tracking.roster.state.get(topic, name, owner=owner)
        if entry is None:
            raise NotTracked(owner, topic, name)
        asked = meta(_from_json(_to_json(entry.meta))) if callable(meta) else meta
        data = self._checked(topic, asked, "update")
        self._count_call(tracking, where, owner)
        ref = str(entry.meta["phx_ref"])
        if data == _without_refs(entry.meta):
            return ref
        new_ref = _new_ref(tracking)
        tracking.roster.update(
            owner, topic, name, {**data, "phx_ref": new_ref, "phx_ref_prev": ref}
        )
        return new_ref

    def untrack(self, where: Channel | str, key: str | int, *, pid: Pid | None = None) -> None:
        """Remove the presence of `key` in `where` at once. It belongs to process `pid`, by default the current one.

        Raises:
            InvalidOperation, InvalidArgument, WrongThread: as `track` does.
        """
        tracking = self._running("untrack")
        topic, name = _names(where, key, "untrack")
        tracking.roster.untrack(_owner("untrack", pid), topic, name)

    def untrack_all(self, *, pid: Pid | None = None) -> None:
        """Remove all presences of the process `pid` at once, by default of the current process.

        Raises:
            InvalidOperation, InvalidArgument, WrongThread: as `track` does.
        """
        tracking = self._running("untrack_all")
        tracking.roster.untrack_all(_owner("untrack_all", pid))

    def _count_call(self, tracking: Tracking, where: Channel | str, owner: Pid) -> None:
        # Count all channels of a connection together: a client can join many topics.
        caller = connection_of(where) if isinstance(where, Channel) else owner
        try:
            tracking.roster.count_call(caller, trio.current_time())
        except TooManyCalls as error:
            tracking.counts["calls_refused"] += 1
            self._execute(PRESENCE_CALLS_REFUSED, {}, {"error": error})
            raise

    # Reading

    def snapshot(self, where: Channel | str) -> Snapshot:
        """Return the keys in `where`, a channel or a topic, with their metas, but without the additions of `fetch`.

            "ann" in presence.snapshot("room:lobby"), len(presence.snapshot("room:lobby"))

        Works in every thread, and never waits. The snapshot is empty if the presence is not running. Do not build a
        state for clients from the snapshot: pending diffs continue only from the result of `list` and `push_state`.
        """
        tracking = self._tracking
        return NO_MEMBERS if tracking is None else tracking.roster.snapshots.topic(_topic(where))

    async def list(self, where: Channel | str) -> Presences:
        """Return the presences in `where`, a channel or a topic, in the form for clients: `{"ann": {"metas": [...]}}`.

        Raises:
            Exception: whatever `fetch` raised, TooSlowError after `callback_timeout`, or InvalidResult.
            InvalidOperation, WrongThread: as `track` does.
        """
        tracking, topic = self._running("list"), _topic(where)
        return await fetched(self, topic, everybody(_read(tracking, topic)))

    async def get_by_key(self, where: Channel | str, key: str | int) -> dict[str, Any] | None:
        """Return one key of a topic, `{"metas": [...]}`, or None if the key is not present. Raises as `list` does."""
        tracking = self._running("get_by_key")
        topic, name = _names(where, key, "get_by_key")
        metas = [dict(meta) for meta in tracking.roster.snapshots.topic(topic).get(name)]
        if not metas:
            return None
        return (await fetched(self, topic, {name: {"metas": metas}})).get(name)

    async def push_state(self, channel: Channel) -> None:
        """Push `presence_state` to the client of `channel`, with everybody in the channel's topic.

        If the presence only counts the topic, the state is empty, and a `presence_diff` with the `count` follows.

        Call it once for each join. phoenix.js keeps diffs until it has the first state of a join. While `fetch` runs
        for a later state, a diff may overtake that state. The state then undoes the diff.

        Raises:
            InvalidOperation: the join of the channel has not been answered yet.
            Exception: what `list` raises.
        """
        tracking, topic = self._running("push_state"), channel.topic
        snapshot = _read(tracking, topic)
        if tracking.roster.counting.read(topic, len(snapshot)):
            channel.push("presence_state", {})
            channel.push("presence_diff", {"joins": {}, "leaves": {}, "count": len(snapshot)})
        else:
            channel.push("presence_state", await fetched(self, topic, everybody(snapshot)))

    def statistics(self) -> dict[str, int]:
        """Return the sizes of this presence and its counters. Empty if it is not running.

        Returns:
            A dict with these numbers:

            - `topics`, `presences`: topics with members, and presences of all nodes
            - `own_presences`: presences that this node tracks
            - `nodes`, `nodes_down`: known nodes, this one included, and silent nodes
            - `waiting_nodes`: large changes of other nodes that readers do not see completely
            - `waiting_diffs`: topics with changes that clients have yet to get
            - `counted_topics`: topics whose clients get a count
            - `callbacks_failed`: failures of `fetch`, `handle_metas` and `counted`
            - `calls_refused`: calls beyond `max_calls_per_second`
            - `transfers`, `transfers_refused`: requests to other nodes, and refused requests from them
            - `slices`: steps in which readers saw a part of a large change of another node
            - `refused`: messages of other nodes that were dropped
            - `not_sent`: messages that the adapter did not take
        """
        tracking = self._tracking
        if tracking is None:
            return {}
        roster, counts = tracking.roster, tracking.counts
        size = roster.state.statistics()
        return {
            "topics": len(roster.snapshots),
            "presences": size.entries,
            "own_presences": size.own,
            "nodes": size.replicas,
            "nodes_down": size.down,
            "waiting_nodes": roster.unseen,
            "waiting_diffs": len(roster.diffs) + len(tracking.announcing),
            "counted_topics": len(roster.counting),
            **{name: counts[name] for name in _COUNTERS},
        }

    def _checked(self, topic: str, meta: Any, verb: str) -> dict[str, Any]:
        """Return a copy of metadata, as the JSON value that other nodes and clients get."""
        if meta is None:
            return {}
        if not isinstance(meta, Mapping):
            problem = (
                f"its metadata is of type {type(meta).__name__}, not a JSON object; write a dict"
            )
            raise _unfit(topic, verb, problem)
        data = _without_refs(meta)
        try:
            text = _to_json(data)
            value: dict[str, Any] = _from_json(text)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as fault:
            raise _unfit(topic, verb, explain(data, fault)) from fault
        if len(text) > self._max_meta_bytes:
            raise _unfit(
                topic,
                verb,
                f"its metadata has {len(text)} bytes, and the limit is {self._max_meta_bytes}; track an id, and add "
                "the data in fetch",
            )
        return value


def _check_times(owner: str, *, instants: Mapping[str, Any], **periods: Any) -> None:
    for option, value in instants.items():
        check_number(owner, option, value, "seconds, from 0", least=0, finite=True)
    for option, value in periods.items():
        check_positive(owner, option, value)
    down_period, permdown_period = periods["down_period"], periods["permdown_period"]
    if down_period < 2 * periods["heartbeat"]:
        raise InvalidOption(owner, "down_period", down_period, "at least two heartbeats")
    if permdown_period <= down_period:
        raise InvalidOption(owner, "permdown_period", permdown_period, "more than down_period")


def _check_sizes(
    owner: str, max_calls: Any, max_fetches: Any, max_meta_bytes: Any, counted_from: Any
) -> None:
    check_positive(owner, "max_calls_per_second", max_calls)
    if max_calls < 1:
        # A caller saves at most the calls of one second. With a lower rate, it would never reach one whole call.
        raise InvalidOption(owner, "max_calls_per_second", max_calls, "a number, 1 or more")
    check_whole(owner, "max_fetches", max_fetches)
    check_whole(owner, "max_meta_bytes", max_meta_bytes)
    if max_meta_bytes > MOST_META_BYTES:
        expected = f"at most {MOST_META_BYTES} bytes"
        raise InvalidOption(owner, "max_meta_bytes", max_meta_bytes, expected)
    if counted_from is not None:
        check_whole(owner, "counted_from", counted_from)


def _check_async(presence: Presence) -> None:
    owner = type(presence).__name__
    for callback in ("fetch", "init", "handle_metas"):
        if not inspect.iscoroutinefunction(getattr(presence, callback)):
            problem = f"{owner}.{callback} is not async; write `async def {callback}`"
            raise InvalidArgument(None, presence, problem)


_COUNTERS = (
    "callbacks_failed",
    "calls_refused",
    "transfers",
    "transfers_refused",
    "slices",
    "refused",
    "not_sent",
)
_REFS = ("phx_ref", "phx_ref_prev")


def _owner(verb: str, pid: Pid | None) -> Pid:
    """Return the process whose presences a call changes, by default the current one.

    Raises:
        InvalidArgument: the value is not a pid.
        WrongThread: the pid belongs to the runtime of another thread.
    """
    if pid is None:
        return current_pid()
    check_pid(f"Presence.{verb}", pid)
    pid.runtime.require_thread(f"Presence.{verb}")
    return pid


def _new_ref(tracking: Tracking) -> str:
    runtime = current_runtime()
    return tracking.refs.next(runtime.now(), runtime.random.randbytes(5))


def _without_refs(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if name not in _REFS}


def _read(tracking: Tracking, topic: str) -> Snapshot:
    """Return the members of a topic for a client. Later diffs continue from this result."""
    tracking.roster.diffs.note_read(topic)
    return tracking.roster.snapshots.topic(topic)


def _topic(where: Channel | str) -> str:
    if isinstance(where, str):
        return where
    if isinstance(where, Channel):
        return where.topic
    problem = f"a presence got {brief(where)} instead of a channel or a topic"
    raise InvalidArgument(None, where, problem)


def _names(where: Channel | str, key: object, verb: str) -> tuple[str, str]:
    topic = _topic(where)
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise _unfit(topic, verb, f"its key is {brief(key)}; write text or a whole number")
    name = str(key)
    for kind, text in (("topic", topic), ("key", name)):
        if len(text) > MAX_TEXT:
            raise _unfit(
                topic, verb, f"its {kind} has {len(text)} characters, and the limit is {MAX_TEXT}"
            )
        try:
            text.isascii() or text.encode()
        except UnicodeEncodeError as fault:
            problem = f"its {kind} {brief(text)} is not text that JSON can express"
            raise _unfit(topic, verb, problem) from fault
    return topic, name


def _unfit(topic: str, verb: str, problem: str) -> EncodeError:
    return EncodeError(problem, kind="presence", topic=topic, event=verb)
