"""The arbiter in Redis or Valkey, for the nodes of several machines.

Each node has a session, which expires on the server unless the node renews it. The owner of a key is a record that is
valid while its session lives: see `channels.entities.arbiters.redis_scripts`. The node counts its lease from the moment
before it sends a renewal, because the server starts the full lease when it runs the script. It ends its entities
`margin` seconds before the server could grant their keys to another node.

The processes, in the order of their start:

    renewer   renews the session; after a restart of the server, it first restores the records of this node
    call      the connection to the server

The server must not evict keys (`maxmemory-policy noeviction`), because it would forget owners. It expires keys by its
time of day, so a clock that is set forward ends leases early. A failover to a replica may lose the latest records. The
new primary grants nothing for one lease, and the owners restore their records meanwhile. But while an old primary is
still reachable for some nodes, two nodes can own one key. Then the fences decide which of them may write.

Alarms are as durable as the data of the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption
from actors.process import on_exit
from actors.runtime import current_runtime
from channels.entities.arbiter import ArbiterUnavailable, Owned, OwnedBy
from channels.entities.arbiters import redis_scripts as scripts
from channels.entities.arbiters.logger import attach
from channels.entities.lease import Lease
from channels.pubsub.adapter import Node
from channels.pubsub.redis.caller import Caller, CallFailed
from channels.pubsub.redis.connection import Options
from channels.pubsub.redis.protocol import Script, pack_command, run_id_of
from channels.pubsub.redis.server import RedisServer
from channels.pubsub.redis.server_errors import ServerError
from channels.telemetry import ENTITY_ARBITER_CONNECTED, ENTITY_ARBITER_DISCONNECTED
from supervision.child_spec import ChildSpec, process_spec

__all__ = ["RedisArbiter"]

# Seconds between two attempts to renew.
_RETRY = 0.1
# Commands of the renewer in flight, beside `max_calls`.
_OWN_CALLS = 4
# Records in one call of `restore`. The server does nothing else meanwhile.
_PORTION = 500
# Records that one renewal checks, and removes if their session has ended.
_CHECKED = 100
# Milliseconds that the hashes outlive the last renewal of all nodes.
_TTL = 7 * 24 * 3600 * 1000
# Seconds beyond the time after which the server grants keys again. It counts in whole microseconds.
_TICK = 0.001

_EVENTS = {
    "connected": ENTITY_ARBITER_CONNECTED,
    "disconnected": ENTITY_ARBITER_DISCONNECTED,
}


class _Session:
    """One session of this node.

    Attributes:
        run: the run of the server that has the records of the session.
        owned: the keys that the session owns.
        doubts: keys that the server may still have to release or to transfer, with their fences: it did not answer.
        restores: counts the times at which records were read to restore them.
    """

    def __init__(self, node: Node, number: int, lease: Lease) -> None:
        self.identity = scripts.identity_of(node)
        self.number = number
        self.run = b""
        self.lease = lease
        self.owned: dict[str, Owned] = {}
        self.doubts: dict[str, int] = {}
        self.restores = 0
        # The cursor of the clean-up.
        self.cursor = 0


class RedisArbiter:
    """The arbiter of all nodes that use the same server and the same prefix.

        EntitySupervisor("auctions", Auction, arbiter=RedisArbiter(url, lease=5.0, margin=1.0))

    Args:
        server: the server, or its URL. It need not be the server of the PubSub.
        lease: seconds after the last renewal at which the server may grant the keys of this node to other nodes. Write
            the same number on all nodes. A server that is new or has restarted grants nothing for this time. A shorter
            lease frees the keys of a dead node sooner, but a shorter outage of the server or pause of the node then
            ends its entities.
        renew_interval: seconds between two renewals.
        margin: seconds before the end of the lease at which this node stops its entities. They pay for the time to stop
            them, and for clocks that do not run at the same speed.
        timeout: seconds for each request.
        max_calls: requests in flight. Further requests wait for their turn, within `timeout`.

    Raises:
        InvalidArgument: the URL has another form.
        InvalidOption: an option has an invalid value.
    """

    name = "redis"

    def __init__(
        self,
        server: RedisServer | str,
        *,
        lease: float = 10.0,
        renew_interval: float = 2.5,
        margin: float = 2.0,
        timeout: float = 3.0,
        max_calls: int = 64,
    ) -> None:
        times = {"lease": lease, "renew_interval": renew_interval, "margin": margin}
        for option, seconds in {**times, "timeout": timeout}.items():
            check_positive("RedisArbiter", option, seconds)
        check_whole("RedisArbiter", "max_calls", max_calls)
        if renew_interval + margin >= lease:
            expected = f"more than renew_interval + margin, which is {renew_interval + margin:g}"
            raise InvalidOption("RedisArbiter", "lease", lease, expected)
        self._server = RedisServer.of(server)
        self._lease_seconds = lease
        self._margin = margin
        self._interval = renew_interval
        self._timeout = timeout
        self._max_calls = max_calls
        self._room = trio.Semaphore(max_calls)
        self._clock: Callable[[], float] = lambda: 0.0
        self._no_lease = Lease(self._clock)
        self._no_lease.lose("no session was opened yet")
        self._session: _Session | None = None
        self._number = 0
        self._caller: Caller | None = None
        self._supervisor = ""
        self._keys = scripts.Keys.of("", "")
        self._run_id = b""
        # Set when the renewer has something to do before its next renewal.
        self._news = trio.Event()
        self._sessions = self._renewals = 0

    def __repr__(self) -> str:
        return f"<RedisArbiter {self._server.url}>"

    @property
    def lease(self) -> Lease:
        """The lease of the present session."""
        return self._no_lease if self._session is None else self._session.lease

    def start(
        self, supervisor: str, *, on_node_lost: Callable[[Node], None]
    ) -> Sequence[ChildSpec]:
        """Return the child specs of the connection and of the renewer."""
        runtime = current_runtime()
        self._clock = runtime.since_boot
        self._supervisor = supervisor
        self._keys = scripts.Keys.of(self._server.url.prefix, supervisor)

        def report(kind: str, numbers: Mapping[str, Any], about: Mapping[str, Any]) -> None:
            about = {"supervisor": supervisor, **about}
            runtime.telemetry.execute(_EVENTS[kind], numbers, about)

        options = Options(
            server=self._server,
            client_name=f"{self._server.url.prefix}:entities:{supervisor}",
            report=report,
        )
        introduction = [pack_command("INFO", "server")]
        self._caller = caller = Caller(
            options, introduction, self._introduced, max_calls=self._max_calls + _OWN_CALLS
        )
        return [process_spec(self._keep, id="renewer"), ChildSpec("call", caller.start_link)]

    def _introduced(self, answers: Sequence[Any]) -> str | None:
        if isinstance(answers[0], ServerError):
            return f"the server answered to INFO: {answers[0]}"
        run_id = run_id_of(answers[0])
        if run_id is None:
            return "the server did not tell its run_id in INFO"
        self._run_id = run_id
        self._news.set()
        return None

    # The session

    async def open_session(self, node: Node) -> Lease:
        """Open a session, whose lease counts from the moment before the request.

        Raises:
            InvalidOption: the node has no incarnation, so other nodes may have the same name.
            ArbiterUnavailable: as for all requests.
        """
        if not node.incarnation:
            # The node of a LocalAdapter. All such nodes have one name, so they would take each other's sessions.
            expected = "None, because the PubSub of this endpoint has no other nodes"
            raise InvalidOption("EntitySupervisor", "arbiter", self, expected)
        self.lease.lose("the node opened another session")
        # Numbers of this node grow, also if a new arbiter follows an earlier one.
        self._number = max(self._number + 1, int(self._clock() * 1_000_000))
        session = _Session(node, self._number, self._no_lease)
        # Not repeated: if the answer is lost, the next session has a greater number.
        answer, sent = await self._ask(session, scripts.OPEN, (), self._deadline())
        if answer != [scripts.DONE]:
            raise self._unavailable("a later session of this node lives", may_have_run=False)
        # If the server has restarted since, the first renewal says so.
        session.run = self._run_id
        until = self._end_of_lease(sent)
        session.lease = Lease(self._clock, until, seconds=self._lease_seconds)
        self._session = session
        self._sessions += 1
        self._news.set()
        return session.lease

    async def close_session(self) -> None:
        """End the session on the server."""
        session = self._session
        if session is None or not session.lease.is_valid:
            return
        session.lease.lose("the session was closed")
        try:
            await self._ask(session, scripts.CLOSE, (), self._deadline())
        except ArbiterUnavailable:
            # Then the session expires by itself.
            pass

    async def _keep(self) -> None:
        """Renew each session until its lease ends. This is a process."""
        on_exit(attach(current_runtime().telemetry, self._supervisor))
        while True:
            self._news = trio.Event()
            session, pause = self._session, self._interval
            if session is None or not session.lease.is_valid:
                await self._news.wait()
                continue
            try:
                await self._renew(session)
            except ArbiterUnavailable as error:
                session.lease.delay, pause = error.problem, _RETRY
            # Notice the end of the lease in time, for those that wait for it.
            with trio.move_on_after(min(pause, session.lease.seconds_left)):
                await self._news.wait()

    async def _renew(self, session: _Session) -> None:
        if session.run != self._run_id:
            await self._restore(session)
            return
        arguments = (session.run, session.cursor, _CHECKED, _TTL)
        answer, sent = await self._ask(session, scripts.RENEW, arguments, self._deadline(session))
        match answer:
            case [scripts.DONE, int(cursor)]:
                self._renewals, session.cursor = self._renewals + 1, cursor
                session.lease.extend(self._end_of_lease(sent))
            case [scripts.WAIT, _]:
                # The server has restarted since the last answer, or has lost its data.
                session.run = b""
                self._news.set()
            case _:
                session.lease.lose("the server let the session expire, or has lost it")

    async def _restore(self, session: _Session) -> None:
        """Write the records of the session again, after a restart of the server or a failover."""
        run, sent = self._run_id, self._clock()
        known = list(session.owned)
        session.restores += 1
        # Without keys, one call restores the session.
        for start in range(0, len(known) or 1, _PORTION):

            def records(
                keys: Sequence[str] = known[start : start + _PORTION],
            ) -> list[str | int | bytes]:
                # Read the records when they are sent, because some keys may have been released since.
                session.restores += 1
                found: list[str | int | bytes] = []
                for key in keys:
                    owned = session.owned.get(key)
                    if owned is not None:
                        found += (key.encode(), owned.fence, int(owned.arrived))
                return found

            deadline = self._deadline(session)
            answer, _ = await self._ask(session, scripts.RESTORE, records, deadline)
            if answer != [scripts.DONE]:
                session.lease.lose(
                    "the server restarted, and this node did not restore its records"
                )
                return
        if run == self._run_id:
            session.run = run
            session.lease.extend(self._end_of_lease(sent))
        else:
            self._news.set()

    # Requests

    async def acquire(self, key: str, *, at_least: int = 0) -> Owned | OwnedBy:
        """Own a key, or learn which node owns it. After a restart of the server, this waits until it grants keys."""
        session = self._present()
        # A late `release` or `transfer` must not end the ownership that begins now.
        least = max(at_least, session.doubts.get(key, -1) + 1)
        match await self._request(session, scripts.ACQUIRE, key, least):
            case [scripts.DONE, int(fence), int(arrived)]:
                if not session.lease.is_valid:
                    raise self._ended(session, may_have_run=True)
                session.doubts.pop(key, None)
                session.owned[key] = owned = Owned(fence, bool(arrived))
                return owned
            case [scripts.REFUSED, bytes(identity)]:
                session.doubts.pop(key, None)
                session.owned.pop(key, None)
                return OwnedBy(scripts.node_of(identity))
            case malformed:
                raise self._malformed(malformed)

    async def release(self, key: str, fence: int) -> bool:
        """Give up a key."""
        answer = await self._give_up(scripts.RELEASE, key, fence)
        return bool(answer[0] == scripts.DONE)

    async def transfer(self, key: str, fence: int, to: Node) -> int | None:
        """Pass a key on to another node."""
        match await self._give_up(scripts.TRANSFER, key, fence, scripts.identity_of(to)):
            case [scripts.DONE, int(new_fence), _]:
                return new_fence
            case _:
                return None

    async def _give_up(self, script: Script, key: str, fence: int, *arguments: bytes) -> list[Any]:
        session = self._present()
        before = session.owned.get(key)
        if before is not None and before.fence == fence:
            # Do not restore it, because it may have another owner soon.
            del session.owned[key]
        session.doubts[key] = fence
        was_done, restores = False, session.restores
        try:
            answer = await self._request(session, script, key, fence, *arguments, repeats=False)
            was_done = answer[0] == scripts.DONE
        except ArbiterUnavailable as error:
            # If a restore has left the key out, another node may get it.
            error.may_have_run = error.may_have_run or session.restores != restores
            if error.may_have_run:
                raise
            session.doubts.pop(key, None)
            if before is not None:
                session.owned[key] = before
            raise
        session.doubts.pop(key, None)
        if not was_done and script is scripts.TRANSFER and before is not None:
            if session.restores != restores:
                raise self._unavailable("the server restarted meanwhile", may_have_run=True)
            # The target has no session. This node still owns the key.
            session.owned[key] = before
        return answer

    async def set_alarm(self, key: str, at: float | None, fence: int) -> bool:
        """Set or clear the alarm of a key."""
        text = "" if at is None else repr(float(at))
        answer = await self._request(self._present(), scripts.SET_ALARM, key, fence, text)
        return bool(answer[0] == scripts.DONE)

    async def due_alarms(self, now: float, limit: int) -> list[tuple[str, float]]:
        """Return keys whose alarm is due."""
        match await self._request(self._present(), scripts.DUE_ALARMS, repr(float(now)), limit):
            case [scripts.DONE, [*parts]]:
                pairs = zip(parts[::2], parts[1::2], strict=True)
                return [(key.decode(), float(at)) for key, at in pairs]
            case malformed:
                raise self._malformed(malformed)

    async def clear_alarm(self, key: str, at: float) -> None:
        """Clear an alarm that has fired."""
        await self._request(self._present(), scripts.CLEAR_ALARM, key, repr(float(at)))

    async def owner(self, key: str) -> Node | None:
        """Return the node that owns a key."""
        match await self._request(self._present(), scripts.OWNER, key):
            case [scripts.DONE, bytes(identity)]:
                return scripts.node_of(identity)
            case _:
                return None

    def _present(self) -> _Session:
        session = self._session
        if session is None or not session.lease.is_valid:
            raise self._ended(session, may_have_run=False)
        return session

    async def _request(
        self,
        session: _Session,
        script: Script,
        *arguments: str | int | bytes,
        repeats: bool = True,
    ) -> list[Any]:
        """Run a script for the present session, and return its answer, which is DONE or REFUSED.

        Args:
            session: the session.
            script: the script.
            *arguments: its arguments.
            repeats: send it again on the next connection if a connection is lost before the answer.
        """
        # Encode here, so that this call raises the error.
        encoded = [each.encode() if isinstance(each, str) else each for each in arguments]
        deadline = self._deadline()
        with trio.move_on_at(deadline) as waiting:
            await self._room.acquire()
        if waiting.cancelled_caught:
            raise self._unavailable("too many other requests wait", may_have_run=False)
        try:
            return await self._repeat(session, script, encoded, deadline, repeats=repeats)
        finally:
            self._room.release()

    async def _repeat(
        self,
        session: _Session,
        script: Script,
        arguments: Sequence[int | bytes],
        deadline: float,
        *,
        repeats: bool,
    ) -> list[Any]:
        may_have_run = False
        while True:
            try:
                answer, _ = await self._ask(session, script, arguments, deadline)
            except ArbiterUnavailable as error:
                may_have_run = may_have_run or error.may_have_run
                # This does not spin: without a connection, a call waits until its deadline.
                if repeats and error.may_have_run and trio.current_time() < deadline:
                    continue
                error.may_have_run = may_have_run
                raise
            match answer:
                case [scripts.DONE | scripts.REFUSED, *_]:
                    return answer
                case [scripts.WAIT, int(microseconds)]:
                    seconds = microseconds / 1_000_000 + _TICK
                    if trio.current_time() + seconds >= deadline:
                        raise self._unavailable(
                            f"the server is new or has restarted, so it grants no key for {seconds:.1f} s more",
                            may_have_run=may_have_run,
                            retry_after=seconds,
                        )
                    await trio.sleep(seconds)
                case [scripts.ENDED]:
                    session.lease.lose("the server let the session expire, or has lost it")
                    raise self._ended(session, may_have_run=may_have_run)
                case malformed:
                    raise self._malformed(malformed)

    async def _ask(
        self,
        session: _Session,
        script: Script,
        arguments: Sequence[str | int | bytes] | Callable[[], Sequence[str | int | bytes]],
        deadline: float,
    ) -> tuple[list[Any], float]:
        """Run a script once. Return its answer, and the time of the clock of leases before it was sent.

        Args:
            session: the session that sends it.
            script: the script.
            arguments: its arguments, or a function that returns them when they are sent.
            deadline: Trio's time at which this fails.
        """
        if self._caller is None:
            raise self._unavailable("its processes were not started", may_have_run=False)
        sent = 0.0

        def packed() -> Sequence[str | int | bytes]:
            nonlocal sent
            sent = self._clock()
            return (
                len(self._keys.names),
                *self._keys.names,
                self._run_id,
                int(self._lease_seconds * 1000),
                self._keys.sessions,
                session.identity,
                session.number,
                *(arguments() if callable(arguments) else arguments),
            )

        try:
            answer = await self._caller.run(script, packed, deadline=deadline)
        except CallFailed as error:
            raise self._unavailable(error.problem, may_have_run=error.was_sent) from error
        if isinstance(answer, ServerError):
            raise self._unavailable(f"the server answered: {answer}", may_have_run=False)
        if not isinstance(answer, list) or not answer:
            raise self._malformed(answer)
        return answer, sent

    def _deadline(self, session: _Session | None = None) -> float:
        seconds = self._timeout
        if session is not None:
            seconds = min(seconds, session.lease.seconds_left)
        return trio.current_time() + seconds

    def _end_of_lease(self, sent: float) -> float:
        return sent + self._lease_seconds - self._margin

    def _unavailable(
        self, problem: str, *, may_have_run: bool, retry_after: float = 0.0
    ) -> ArbiterUnavailable:
        return ArbiterUnavailable(
            self.name, problem, may_have_run=may_have_run, retry_after=retry_after
        )

    def _ended(self, session: _Session | None, *, may_have_run: bool) -> ArbiterUnavailable:
        problem = self._no_lease.problem if session is None else session.lease.problem
        return self._unavailable(f"the session has ended: {problem}", may_have_run=may_have_run)

    def _malformed(self, answer: Any) -> ArbiterUnavailable:
        return self._unavailable(f"a malformed answer: {answer!r}", may_have_run=True)

    def statistics(self) -> dict[str, Any]:
        """Return the number of sessions, renewals and owned keys, and counters of the connection.

        `connected` is 1 if requests are sent at once. `disconnects` counts lost connections.
        """
        session, caller = self._session, self._caller
        return {
            "sessions": self._sessions,
            "renewals": self._renewals,
            "keys": 0 if session is None else len(session.owned),
            "connected": int(caller is not None and caller.is_usable),
            "disconnects": 0 if caller is None else caller.losses,
        }
