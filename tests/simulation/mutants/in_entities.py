"""Bugs in entities: their router, their processes, their arbiter, and the storages that check their fences."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant

__all__ = ["IN_ENTITIES"]

_TESTS = ("tests/channels/entities",)
_REDIS = ("tests/channels/entities/test_redis_arbiter.py",)
_DURABLE = ("tests/channels/durable", "tests/contracts")
_ROUTER = "channels.entities.router"
_ARBITER = "channels.entities.arbiters.redis"
# `SimulatedRedis` runs these functions in the place of the scripts.
_SCRIPTS = "channels.laboratory.simulated_arbiter"

IN_ENTITIES = (
    # The arbiter
    Mutant(
        name="the arbiter counts fences from 1 after it has lost its data",
        module=_SCRIPTS,
        function="_Run.grant",
        shape="max(self.now, L, A)",
        replacement="max(L, A)",
        promise="docs/reference/entities.md: each owner has a greater fence, also after a failover",
        seen="After a restart of Redis, the storage refuses all writes of the new owners.",
        tests=_REDIS,
    ),
    Mutant(
        name="a renewed lease counts from the answer of the server",
        module=_ARBITER,
        function="RedisArbiter._renew",
        shape="self._end_of_lease(sent)",
        replacement="self._end_of_lease(self._clock())",
        promise="channels.entities.arbiters.redis: counts its lease from before it sends a renewal",
        seen="If the answer takes longer than the margin, two nodes run one entity.",
        tests=_REDIS,
    ),
    Mutant(
        name="the end of a process gives up the key of its successor",
        module=_SCRIPTS,
        function="_Run.release",
        shape="""\
if answer is not None:
    return answer
""",
        replacement="""\
if answer is not None and key not in self.owners:
    return answer
""",
        promise="Arbiter.release: returns False if the session does not own the key with this fence",
        seen="A late release frees a key that another node owns, and a third node runs the entity too.",
        tests=_REDIS,
    ),
    Mutant(
        name="a renewal creates the session again after it has expired",
        module=_SCRIPTS,
        function="_Run.renew",
        shape="""\
if not lives:
    return [0]
""",
        replacement="""\
if not lives:
    self.set_session()
""",
        promise="docs/reference/entities.md: a lease that has ended never begins again",
        seen="A node that was cut off for long goes on as owner, after others have taken its keys.",
        tests=_REDIS,
    ),
    Mutant(
        name="the lease does not count the time of a suspended machine",
        module=_ARBITER,
        function="RedisArbiter.start",
        shape="self._clock = runtime.since_boot",
        replacement="self._clock = runtime.current_time",
        promise="channels.entities.lease: the clock also counts while the machine is suspended",
        seen="A laptop that wakes handles messages of entities that others own by now.",
        tests=_REDIS,
    ),
    Mutant(
        name="an acquire whose first answer was lost is refused",
        module=_SCRIPTS,
        function="_Run.acquire",
        shape="return [1, record.fence, record.arrived]",
        replacement="return [2, record.node]",
        promise="Arbiter.acquire: if the session owns the key already, the result is its present fence",
        seen="After a short loss of the connection, a key stays without a process.",
        tests=_REDIS,
    ),
    Mutant(
        name="a new run of the server grants keys at once",
        module=_SCRIPTS,
        function="_Run.acquire",
        shape="""\
if self.wait > 0:
    return [3, self.wait]
""",
        replacement="",
        promise="channels.entities.arbiters.redis: the new primary grants nothing for one lease",
        seen="After a restart of Redis without its data, two nodes run one entity.",
        tests=_REDIS,
    ),
    Mutant(
        name="a key moves to a session that has ended",
        module=_SCRIPTS,
        function="_Run.transfer",
        shape="""\
if number is None or to == self.node:
    return [2]
""",
        replacement="""\
if number is None:
    number = b"0"
""",
        promise="Arbiter.transfer: None if the other node has no living session",
        seen="The state of a key that moves to a dead node is lost.",
        tests=_REDIS,
    ),
    Mutant(
        name="a node that owns no longer restores the records of others",
        module=_SCRIPTS,
        function="_Run.restore",
        shape="theirs.fence >= fence",
        replacement="False",
        promise="channels.entities.arbiters.redis: after a restart, the greater fence wins",
        seen="After a failover, an earlier owner takes a key back from its successor.",
        tests=_REDIS,
    ),
    # The storage
    Mutant(
        name="a storage accepts appends of earlier owners",
        module="channels.durable.memory",
        function="MemoryStorage.append",
        shape="F.get(T) != M",
        replacement="(F.get(T) is None) != (M is None)",
        promise="History.append: accepts only the fence that was claimed last",
        seen="An owner that was paused writes over the state of the next owner.",
        tests=_DURABLE,
    ),
    Mutant(
        name="a claim is accepted but not stored",
        module="channels.durable.memory",
        function="MemoryStorage.claim",
        shape="self._fences[topic] = fence",
        replacement="self._fences[topic] = self._fences.get(topic, fence)",
        promise="History.claim: from now on, the storage accepts only appends with this fence",
        seen="An earlier owner can still append after the next owner has read its state.",
        tests=_DURABLE,
    ),
    # The process
    Mutant(
        name="an entity does not check its lease before a message",
        module="channels.entities.process",
        function="EntityProcess.__may_begin",
        shape="R and host.lease.is_valid and B",
        replacement="R and B",
        promise="docs/reference/entities.md: an entity checks its lease before each message",
        seen="A process that was stopped by SIGSTOP handles messages beside the next owner.",
        tests=_TESTS,
    ),
    Mutant(
        name="a request runs although its caller has given up",
        module="channels.entities.requests",
        function="EntityRequest.begin",
        shape="""\
if self._done:
    return False
""",
        replacement="",
        promise="EntityTimeout: the entity did not begin to handle the request in time, and never will",
        seen="A bid that was reported as failed is made after all.",
        tests=_TESTS,
    ),
    Mutant(
        name="a request that was taken from the mailbox is lost when the entity stops",
        module="channels.entities.process",
        function="EntityProcess.__instead",
        shape="""\
record.popped = request
if S:
    return Stop(NORMAL)
""",
        replacement="""\
if S:
    return Stop(NORMAL)
""",
        promise="EntitySupervisor: no message is lost between an idle stop and the next start",
        seen="A call that meets an idle stop or a move gets no answer.",
        tests=_TESTS,
    ),
    # The router
    Mutant(
        name="a crashed entity starts again with the same fence",
        module="channels.entities.ownership",
        function="Record.next_fence",
        shape="self.fence + 1",
        replacement="self.fence",
        promise="Entity.fence: each later start of the key has a greater fence",
        seen="The append of a crashed process can arrive after its successor has read its state.",
        tests=_TESTS,
    ),
    Mutant(
        name="a request to a lost node is sent again",
        module=_ROUTER,
        function="Router._fail_at",
        shape="request.fail(F)",
        replacement="(self.streams.take_back(request), self._route_again(request))",
        promise="EntityLost: the request may have run, so only its caller may repeat it",
        seen="A bid is made twice.",
        tests=_TESTS,
    ),
    Mutant(
        name="a request of this node overtakes those that another node has",
        module=_ROUTER,
        function="Router.submit",
        shape="record is not None and R not in S",
        replacement="record is not None",
        promise="docs/reference/entities.md: the requests of one process to one key run in order",
        seen="A later bid of one bidder is made before the earlier one, when the auction moves.",
        tests=_TESTS,
    ),
    Mutant(
        name="requests from a handover come after the direct ones",
        module=_ROUTER,
        function="Router._take_over",
        shape="record.wait_first(requests)",
        replacement="record.waiting = [*record.waiting, *requests]",
        promise="docs/reference/entities.md: the waiting messages go to the new owner in order",
        seen="A later bid of one bidder is made before the earlier one, when the auction moves.",
        tests=_TESTS,
    ),
    Mutant(
        name="an entity starts if the node of its owner is down",
        module=_ROUTER,
        function="Router.acquire",
        shape="isinstance(owned, OwnedBy)",
        replacement="isinstance(owned, OwnedBy) and self.placement.knows(owned.node)",
        promise="Router.node_lost: this permits no start of a process",
        seen="Two nodes that do not see each other run one entity.",
        tests=_TESTS,
    ),
    Mutant(
        name="an entity starts again without asking the arbiter",
        module=_ROUTER,
        function="Router.acquire",
        shape="owned = await self.arbiter.acquire(K, at_least=L)",
        replacement="""\
owned = Owned(at_least, False) if at_least else await self.arbiter.acquire(K, at_least=L)
""",
        promise="Router.acquire: owns the key of a record",
        seen="An entity that was released starts again while another node owns it.",
        tests=_TESTS,
    ),
    Mutant(
        name="a node asks an earlier owner for ever",
        module=_ROUTER,
        function="Router._choose",
        shape="self.placement.may_own(owner)",
        replacement="True",
        promise="docs/reference/entities.md: after a fault, every key answers within the lease",
        seen="Calls to the keys of a node that has ended fail until the caller restarts.",
        tests=_TESTS,
    ),
    Mutant(
        name="keys move to a node that drains",
        module="channels.entities.placement",
        function="Placement.choose",
        shape="not E.draining and L",
        replacement="L",
        promise="docs/reference/entities.md: a node that drains gets no keys",
        seen="A rolling deploy moves a key to a node that stops next, and loses its requests.",
        tests=_TESTS,
    ),
    Mutant(
        name="a key with too many crashes starts at once",
        module=_ROUTER,
        function="Router._revive",
        shape="seconds > 0",
        replacement="seconds > 1000",
        promise="EntitySupervisor: until the end of the backoff, requests fail with EntityStartFailed",
        seen="An entity that always crashes starts as often as it is called.",
        tests=_TESTS,
    ),
    Mutant(
        name="a handover forgets the casts",
        module=_ROUTER,
        function="Router._hand_over",
        shape="data, requests = self._packed(record, requests)",
        replacement="""\
requests = [each for each in requests if each.wants_answer]
data, requests = self._packed(record, requests)
""",
        promise="docs/reference/entities.md: an orderly handover loses no message",
        seen="A cast that was acknowledged is lost when the entity moves.",
        tests=_TESTS,
    ),
    Mutant(
        name="a new owner starts before the handover arrives",
        module=_ROUTER,
        function="Router.acquire",
        shape="is_awaited = owned.arrived and record.handoff_fence != F",
        replacement="is_awaited = False",
        promise="EntitySupervisor: the next owner of a key waits for its state",
        seen="Requests that waited for an entity fail when it moves.",
        tests=_TESTS,
    ),
    Mutant(
        name="a key moves to a node that has begun to drain",
        module=_ROUTER,
        function="Router.give_up",
        shape="self._is_stopping or not self.placement.drains(to)",
        replacement="True",
        promise="EntitySupervisor: callers notice only a delay when a node drains",
        seen="During a rolling deploy, calls fail because the new owner has stopped.",
        tests=_TESTS,
    ),
    Mutant(
        name="a key that has started without its handover takes it after a crash",
        module="channels.entities.handovers",
        function="Handovers.is_given_up",
        shape="(key, fence) in self._given_up",
        replacement="False",
        promise="docs/reference/entities.md: the requests of one sender run in order",
        seen="Requests of a late handover run after newer ones of the same sender.",
        tests=_TESTS,
    ),
    Mutant(
        name="an entity gets the state of an earlier handover",
        module=_ROUTER,
        function="Router.acquire",
        shape="handoff is None or H not in T",
        replacement="handoff is None",
        promise="Entity.init: the state is that of the previous process",
        seen="After a handover that came late, an entity goes on with an old state.",
        tests=_TESTS,
    ),
    Mutant(
        name="an acknowledged cast that returns to its sender's node is lost",
        module=_ROUTER,
        function="Router._receive_part",
        shape='carried.origin != self.node or carried.ask.verb in {"cast", "send"}',
        replacement="carried.origin != self.node",
        promise="docs/reference/entities.md: an orderly handover loses no message",
        seen="A cast is lost if its entity moves to the node that has sent it.",
        tests=_TESTS,
    ),
    Mutant(
        name="an entity that stops gives its key up, although requests are in its mailbox",
        module=_ROUTER,
        function="Router.give_up",
        shape="not self._waiting_in_mailbox(record)",
        replacement="True",
        promise="EntitySupervisor: no message is lost between a stop and the next start",
        seen="A cast is lost if another node gets the key at the moment of the stop.",
        tests=_TESTS,
    ),
    Mutant(
        name="a crash fails the requests that wait",
        module=_ROUTER,
        function="Router._crashed",
        shape="""\
if not D:
    record.wait_first(requests)
    AA
""",
        replacement="""\
if not D:
    self._fail_all(requests, Failure("EntityCrashed", "it crashed", reason))
    AA
""",
        promise="EntityCrashed: only for the request that the entity handled",
        seen="One bad request fails all requests that wait behind it.",
        tests=_TESTS,
    ),
    Mutant(
        name="a new session opens before the entities of the last one have ended",
        module=_ROUTER,
        function="Router._stop_entities",
        shape="""\
for pid in pids:
    await wait_exit(pid)
""",
        replacement="",
        promise="Arbiter.open_session: call this only after all entities of the earlier session have stopped",
        seen="A process of the earlier session still runs when another node starts the entity.",
        tests=_TESTS,
    ),
    Mutant(
        name="a node forgets which requests it has refused",
        module=_ROUTER,
        function="Router._asked",
        shape="turn is not None",
        replacement="turn is not None and ask.verb != 'cast'",
        promise="docs/reference/entities.md: the requests of one process to one key run in order",
        seen="A later message of one sender runs before the earlier ones, when the entity moves.",
        tests=_TESTS,
    ),
    Mutant(
        name="a drain does not wait for the keys that move",
        module=_ROUTER,
        function="Router._move_away",
        shape="""\
while N:
    await self._balance()
    AA
""",
        replacement="await self._balance()",
        promise="EntitySupervisor.drain: moves all keys of this node",
        seen="A rolling deploy loses the requests that wait for the entities.",
        tests=_TESTS,
    ),
    Mutant(
        name="a drain does not wait for the keys that arrive at its end",
        module=_ROUTER,
        function="Router.drain",
        shape="""\
await trio.sleep(N)
await self._move_away(began)
""",
        replacement="await trio.sleep(N)",
        promise="EntitySupervisor.drain: moves all keys of this node",
        seen="A rolling deploy loses the requests that wait for an entity that has just moved.",
        tests=_TESTS,
    ),
    Mutant(
        name="a drain ends while requests for the last keys travel",
        module=_ROUTER,
        function="Router.drain",
        shape="arrived != self.counts['taken_over']",
        replacement="arrived < 0",
        promise="EntitySupervisor.drain: moves all keys of this node",
        seen="A rolling deploy loses the requests for an entity that has just moved.",
        tests=_TESTS,
    ),
    Mutant(
        name="a node that drains refuses the requests for a key on its way to it",
        module=_ROUTER,
        function="Router._may_arrive",
        shape="ask.hops > 0",
        replacement="False",
        promise="EntitySupervisor.drain: moves all keys of this node",
        seen="During a rolling deploy, requests fail because all nodes have refused the entity.",
        tests=_TESTS,
    ),
    Mutant(
        name="a drain does not wait for handovers that arrive in parts",
        module=_ROUTER,
        function="Router._move_away",
        shape="any(map(self.placement.knows, self._handovers.senders("
        "self._now() - 2 * self.settings.handover_timeout)))",
        replacement="False",
        promise="EntitySupervisor.drain: moves all keys of this node",
        seen="A rolling deploy loses the requests that wait for an entity with a large state.",
        tests=_TESTS,
    ),
    Mutant(
        name="a late answer of the arbiter drops a handover",
        module=_ROUTER,
        function="Router._process_ended",
        shape="record.owner is not None and record.has_newer_handoff",
        replacement="False",
        promise="docs/reference/entities.md: an entity moves with the waiting requests",
        seen="If a message arrives while an entity moves, its waiting requests fail.",
        tests=_TESTS,
    ),
    Mutant(
        name="an alarm is forgotten before the entity has handled it",
        module=_ROUTER,
        function="Router._wake_due",
        shape='self._submit_alone(key, "alarm", at)',
        replacement='(self._submit_alone(key, "alarm", at), await self.arbiter.clear_alarm(key, at))',
        promise="Entity.set_alarm: even if its process or its node ends before",
        seen="An auction whose node is killed at its end never ends.",
        tests=_TESTS,
    ),
    Mutant(
        name="the monitors of a lost node do not fire",
        module="channels.entities.remote",
        function="RemoteProcesses._lose",
        shape="self._steps.append(partial(W.ref.down, None, NOCONNECTION))",
        replacement="",
        promise="RemotePid: the loss of the node gives Down(NOCONNECTION)",
        seen="A game waits for ever for a player whose server was killed.",
        tests=("tests/channels/entities/test_remote.py",),
    ),
)
