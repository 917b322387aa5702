"""Presence: who is here, on all nodes.

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

Reads come from a snapshot and wait for nobody. Behaviour after Phoenix.Presence 1.8; `docs/topics/presence.md` lists
the differences.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import trio

from actors.errors import StartIgnored
from actors.instrumentation.telemetry import Event
from actors.process import current_pid, on_exit
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from channels.channel import Channel
from channels.errors import ChannelsError, EncodeError, InvalidOption, check_positive, check_whole
from channels.excerpts import brief
from channels.presence import logger
from channels.presence.announcer import Presences, announce, fetched
from channels.presence.delta import Meta
from channels.presence.generations import DEFAULT_MAX_SIZES
from channels.presence.roster import Limits
from channels.presence.snapshot import NO_MEMBERS, Snapshot
from channels.presence.state import NotTracked
from channels.presence.tracker import Tracker, Tracking
from channels.pubsub.pubsub import PubSub
from channels.serializers.json_values import explain
from supervision.child_spec import ChildSpec, process_spec
from supervision.supervisor import Supervisor

__all__ = ["Presence", "PresenceError"]

_json = msgspec.json.Encoder().encode


class PresenceError(ChannelsError, RuntimeError):
    """A mistake in the use of a presence. The message states the correction."""


class Presence:
    """Everybody who is present in the topics of an application.

        class Online(Presence):
            async def fetch(self, topic, presences):
                users = await load_users(presences)
                return {key: {**entry, "user": users[key]} for key, entry in presences.items()}

        online = Online()
        endpoint = Endpoint(sockets={"/socket": UserSocket}, presences=[online])

    Make one for an application, and give it to the endpoint. Without an endpoint, put `child_spec(pubsub)` under your
    supervisor.

    Args:
        name: the same on every node, and unique among the presences of a PubSub. By default the name of the class.
        leave_grace: seconds that somebody stays present after their channel has ended or their node has stopped. If
            they join again meanwhile, clients see an update. `untrack` does not wait. 0 is Phoenix's behaviour.
        interval: seconds between two diffs of a topic. Changes meanwhile go out as one. The first goes out at once.
        heartbeat: seconds between two heartbeats to other nodes.
        down_period: seconds without a heartbeat after which the presences of another node are hidden.
        permdown_period: seconds without a heartbeat after which another node is forgotten.
        counted: returns True for a topic whose clients get only a count, in `presence_diff`.
        counted_from: the number of keys from which a topic is counted only; None for no number. It is listed again
            below three quarters of that.
        fetch_timeout: seconds that `fetch` may take.
        max_fetches: topics for which `fetch` runs at a time.
        max_calls_per_second: calls of `track`, `update` and `untrack` that one process may make.
        max_meta_bytes: the largest metadata of one presence, as JSON.
        max_delta_sizes: how many recent changes of each node to keep for nodes that missed some.

    Raises:
        InvalidOption: an option has an invalid value.

    Tracking is per node, and other nodes get to know within moments. Two nodes that are cut off from each other show
    each other's presences for `down_period`, and again once they meet.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        leave_grace: float = 0.0,
        interval: float = 0.05,
        heartbeat: float = 1.5,
        down_period: float = 30.0,
        permdown_period: float = 1_200.0,
        counted: Callable[[str], bool] = lambda topic: False,
        counted_from: int | None = None,
        fetch_timeout: float = 5.0,
        max_fetches: int = 10,
        max_calls_per_second: float = 100.0,
        max_meta_bytes: int = 16 * 1024,
        max_delta_sizes: Sequence[int] = DEFAULT_MAX_SIZES,
    ) -> None:
        owner = type(self).__name__
        self.name = owner if name is None else name
        if not isinstance(self.name, str) or not self.name:
            raise InvalidOption(owner, "name", name, "text that is the same on every node")
        for option, value in (("leave_grace", leave_grace), ("interval", interval)):
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value < math.inf
            ):
                raise InvalidOption(owner, option, value, "seconds, from 0")
        for option, value in (
            ("heartbeat", heartbeat),
            ("down_period", down_period),
            ("permdown_period", permdown_period),
            ("fetch_timeout", fetch_timeout),
            ("max_calls_per_second", max_calls_per_second),
        ):
            check_positive(owner, option, value)
        if down_period < 2 * heartbeat:
            raise InvalidOption(owner, "down_period", down_period, "at least two heartbeats")
        if permdown_period <= down_period:
            raise InvalidOption(owner, "permdown_period", permdown_period, "more than down_period")
        for option, number in (
            ("max_fetches", max_fetches),
            ("max_meta_bytes", max_meta_bytes),
            *((("counted_from", counted_from),) if counted_from is not None else ()),
        ):
            check_whole(owner, option, number)
        self.fetches = type(self).fetch is not Presence.fetch
        self.handles_metas = type(self).handle_metas is not Presence.handle_metas
        self.fetch_timeout = fetch_timeout
        self.max_fetches = max_fetches
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
        self._large: set[str] = set()
        self._max_meta_bytes = max_meta_bytes
        self._runtime: Runtime | None = None
        self._tracking: Tracking | None = None

    def __repr__(self) -> str:
        return f"<presence {self.name}>"

    # Callbacks of the application

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        """Add data to presences before clients get them, in one step for all of them.

        Args:
            topic: their topic.
            presences: keys and their metas: `{"ann": {"metas": [...]}}`. Never empty.

        Returns:
            The same with more entries beside `metas`, or with fewer keys. The default changes nothing.

        If it raises or takes longer than `fetch_timeout`, clients do not get that diff. Ashtree logs and counts it. In
        Phoenix, the channels of everybody tracked would crash.
        """
        return presences

    async def init(self) -> Any:
        """Return the first state for `handle_metas`."""
        return None

    async def handle_metas(
        self,
        topic: str,
        diff: Mapping[str, Presences],
        presences: Mapping[str, Sequence[Meta]],
        state: Any,
    ) -> Any:
        """React to a diff on this node, after clients have got it. Return the new state.

        Args:
            topic: the topic.
            diff: its `joins` and `leaves`, as `fetch` returned them.
            presences: everybody in the topic now: keys and their metas.
            state: what `init`, or the previous call, returned.

        An exception is logged and counted, and the state stays.
        """
        return state

    # Starting

    async def start_link(self, pubsub: PubSub) -> Pid:
        """Start the processes of this node. An endpoint does it.

        Raises:
            PresenceError: they run already.
        """
        if self._tracking is not None:
            raise PresenceError(
                f"{self!r} is running already; make another one, with another name, for another endpoint"
            )
        self._runtime = runtime = current_runtime()
        tracking = Tracking.begin(
            pubsub,
            self.name,
            self._limits,
            heartbeat=self._heartbeat,
            interval=self._interval,
            execute=self._execute,
        )
        children = [
            ChildSpec("presence", self._hold, (tracking, runtime), restart="temporary"),
            ChildSpec("tracker", Tracker.start_link, (tracking,)),
            process_spec(announce, tracking, self, id="announcer"),
        ]
        return await Supervisor.start_link(children, label=f"presence {self.name}")

    def child_spec(self, pubsub: PubSub) -> ChildSpec:
        """Return a child spec for your own supervisor. Start it before the processes that it tracks."""
        return ChildSpec((self.name, "presence"), self.start_link, (pubsub,), type="supervisor")

    async def _hold(self, tracking: Tracking, runtime: Runtime) -> Pid:
        """Run until the supervisor ends. This runs in its process, and starts none."""
        detach = logger.attach(runtime.telemetry, self)
        self._tracking = tracking

        def ended() -> None:
            self._tracking = None
            self._large.clear()
            detach()

        on_exit(ended)
        raise StartIgnored

    def _execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        if self._runtime is not None:
            about = {"presence": self, **metadata}
            self._runtime.telemetry.execute(event, measurements, about)

    def _running(self, verb: str) -> Tracking:
        tracking = self._tracking
        if tracking is None:
            raise PresenceError(
                f"{verb}() was called on {self!r}, which is not running; write Endpoint(presences=[...]), or put its "
                "child_spec under your supervisor"
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
            meta: its metadata, a JSON object. Do not change it afterwards.
            pid: the process, of this node. By default the current one. The presence ends with it.

        Returns:
            The `phx_ref` of the metadata, which is new for each change.

        Raises:
            AlreadyTracked: the process tracks this key of this topic already, with other metadata.
            EncodeError: the metadata is not a JSON object, or too large.
            TooManyCalls: the process makes more than `max_calls_per_second`.
            PresenceError: the presence is not running.
            WrongThread: this is not the thread of the runtime.

        The presence is in `list` and `snapshot` of this node when the call returns.
        """
        tracking = self._running("track")
        topic, owner = _topic(where), current_pid() if pid is None else pid
        name, data, now = _key(topic, key), self._checked(topic, meta), trio.current_time()
        known = tracking.roster.state.get(topic, name, owner=owner)
        if known is not None and _without_refs(known.meta) == data:
            tracking.roster.count_call(owner, now)
            return str(known.meta["phx_ref"])
        ref = _new_ref()
        tracking.roster.track(owner, topic, name, {**data, "phx_ref": ref}, now)
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
        """Replace the metadata of a presence. Clients see one diff, with the new one in joins and the old in leaves.

            presence.update(self, user.id, {"device": "phone", "typing": True})
            presence.update(self, user.id, lambda meta: {**meta, "typing": True})

        Args:
            where: a channel, for its topic; or a topic.
            key: the key.
            meta: the new metadata, or a function of the present one. An equal one changes nothing, and no diff is sent.
            pid: the process; by default the current one.

        Returns:
            The `phx_ref`. The metadata also gets `phx_ref_prev`, the one before.

        Raises:
            NotTracked: the process does not track this key of this topic.
            EncodeError, TooManyCalls, PresenceError, WrongThread: as `track` does.
        """
        tracking = self._running("update")
        topic, owner = _topic(where), current_pid() if pid is None else pid
        name, state = _key(topic, key), tracking.roster.state
        entry = state.get(topic, name, owner=owner)
        if entry is None:
            raise NotTracked(owner, topic, name)
        now = trio.current_time()
        asked = meta(dict(entry.meta)) if callable(meta) else meta
        after = self._checked(
            topic,
            {k: v for k, v in asked.items() if k not in _REFS}
            if isinstance(asked, Mapping)
            else asked,
        )
        ref = str(entry.meta["phx_ref"])
        if after == _without_refs(entry.meta):
            tracking.roster.count_call(owner, now)
            return ref
        new_ref = _new_ref()
        whole = {**after, "phx_ref": new_ref, "phx_ref_prev": ref}
        tracking.roster.update(owner, topic, name, whole, now)
        return new_ref

    def untrack(self, where: Channel | str, key: str | int, *, pid: Pid | None = None) -> None:
        """Remove a presence at once. Nothing happens if the process does not track this key.

        Raises:
            TooManyCalls, PresenceError, WrongThread: as `track` does.
        """
        tracking = self._running("untrack")
        topic, owner = _topic(where), current_pid() if pid is None else pid
        tracking.roster.untrack(owner, topic, _key(topic, key), trio.current_time())

    def untrack_all(self, *, pid: Pid | None = None) -> None:
        """Remove all presences of a process, by default the current one, at once."""
        tracking = self._running("untrack_all")
        tracking.roster.untrack_all(current_pid() if pid is None else pid)

    # Reading

    def snapshot(self, where: Channel | str) -> Snapshot:
        """Return everybody in a topic now: keys and their metas, without what `fetch` adds.

        Works in every thread, and never waits. Empty if the presence is not running.
        """
        tracking = self._tracking
        return NO_MEMBERS if tracking is None else tracking.roster.snapshots.topic(_topic(where))

    async def list(self, where: Channel | str) -> Presences:
        """Return everybody in a topic, as clients get them: `{"ann": {"metas": [...]}}`.

        Raises:
            Exception: whatever `fetch` raised, or TooSlowError after `fetch_timeout`.
            PresenceError: the presence is not running.
        """
        tracking = self._running("list")
        topic = _topic(where)
        presences = {
            key: {"metas": [*metas]}
            for key, metas in tracking.roster.snapshots.topic(topic).items()
        }
        tracking.roster.diffs.note_read(topic)
        return await fetched(self, topic, presences)

    async def get_by_key(self, where: Channel | str, key: str | int) -> dict[str, Any] | None:
        """Return one key of a topic, `{"metas": [...]}`, or None if nobody has it. Raises what `list` does."""
        self._running("get_by_key")
        topic = _topic(where)
        name = _key(topic, key)
        metas = self.snapshot(topic).get(name)
        if not metas:
            return None
        return (await fetched(self, topic, {name: {"metas": [*metas]}})).get(name)

    async def push_state(self, channel: Channel) -> None:
        """Push `presence_state` to the client of a channel: everybody in its topic.

        In a topic that is counted only, the state is empty, and a `presence_diff` with the `count` follows.

        Raises:
            Exception: what `list` raises.
        """
        snapshot = self.snapshot(channel)
        if self.is_counted(channel.topic, snapshot):
            channel.push("presence_state", {})
            channel.push("presence_diff", {"joins": {}, "leaves": {}, "count": len(snapshot)})
        else:
            channel.push("presence_state", await self.list(channel))

    def is_counted(self, topic: str, snapshot: Snapshot | None = None) -> bool:
        """Return True if clients of a topic get only a count."""
        if self._counted(topic):
            return True
        if self._counted_from is None:
            return False
        size = len(self.snapshot(topic) if snapshot is None else snapshot)
        # Between the two limits it stays as it is, so that a topic at the limit does not change with every join.
        if size >= self._counted_from:
            self._large.add(topic)
        elif size < 0.75 * self._counted_from:
            self._large.discard(topic)
        return topic in self._large

    def statistics(self) -> dict[str, int]:
        """Return the numbers of topics, presences, nodes, failed callbacks, transfers and refused messages."""
        tracking = self._tracking
        if tracking is None:
            return {}
        size = tracking.roster.state.statistics()
        return {
            "topics": len(tracking.roster.snapshots),
            "presences": size.entries,
            "own_presences": size.own,
            "nodes": size.replicas,
            "nodes_down": size.down,
            "waiting_diffs": len(tracking.roster.diffs),
            "callbacks_failed": tracking.counts["callbacks_failed"],
            "transfers": tracking.counts["transfers"],
            "transfers_refused": tracking.counts["transfers_refused"],
            "refused": tracking.counts["refused"],
        }

    def _checked(self, topic: str, meta: Any) -> dict[str, Any]:
        """Return a copy of metadata that JSON can express."""
        problem = None
        if meta is None:
            return {}
        if not isinstance(meta, Mapping):
            problem = f"its metadata is a {type(meta).__name__}, not a JSON object; write a dict"
        else:
            try:
                size = len(_json(dict(meta)))
            except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as fault:
                problem = explain(dict(meta), fault)
            else:
                if size > self._max_meta_bytes:
                    problem = (
                        f"its metadata has {size} bytes, and the limit is {self._max_meta_bytes}; track an id, and add "
                        "the data in fetch"
                    )
        if problem is not None:
            raise EncodeError(problem, kind="presence", topic=topic, event="track")
        return _without_refs(meta)


_REFS = ("phx_ref", "phx_ref_prev")


def _without_refs(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if name not in _REFS}


def _topic(where: Channel | str) -> str:
    return where if isinstance(where, str) else where.topic


def _key(topic: str, key: object) -> str:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return str(key)
    problem = f"its key is {brief(key)}; write text or a whole number"
    raise EncodeError(problem, kind="presence", topic=topic, event="track")


def _new_ref() -> str:
    # 96 random bits, as 16 characters, like those of Phoenix.
    return base64.urlsafe_b64encode(current_runtime().random.randbytes(12)).decode()
