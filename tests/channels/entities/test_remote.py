"""Pids of other nodes: messages, calls and monitors over a network that delays and drops messages."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from actors import (
    KILL,
    KILLED,
    NOCONNECTION,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    CallTimeout,
    Crash,
    Down,
    ExitReason,
    GenServer,
    InvalidArgument,
    InvalidOption,
    NoProcess,
    NoReply,
    Pid,
    Reason,
    Reply,
    Sender,
    ServerExit,
    Shutdown,
    Stop,
    call,
    cast,
    current_pid,
    current_runtime,
    demonitor,
    kill,
    link,
    monitor,
    on_exit,
    open_runtime,
    reply,
    send,
    send_after,
    send_exit,
    spawn,
)
from actors.links import wait_exit
from channels.entities.remote import (
    CONFIRM_TIMEOUT,
    RECHECK_INTERVAL,
    Ended,
    ProcessAddress,
    ProcessRequest,
    ProcessResponse,
    RemoteCrash,
    RemoteMessage,
    RemotePid,
    RemoteProcesses,
    Tick,
    Unwatch,
    Watch,
    Watching,
    decode_reason,
    encode_reason,
)
from channels.observer.inspector import facts_of
from channels.pubsub.adapter import Node
from supervision.laboratory.chaos.invariants.base import Watch as LawWatch
from supervision.recording.describe import describe
from supervision.recording.flight import FlightRecorder
from supervision.tree import snapshot
from tests.actors.helpers import down, idle, in_process, nothing_arrives, settle
from tests.laws.mail import AnsweredOnce, NothingLeft
from tests.laws.processes import Calls, Monitors
from tests.supervision.recording.test_schema import check

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RemoteMessage).decode


class CannotTravel(Exception):
    """The error of this codec."""


class Json:
    """A codec of JSON values."""

    def encode(self, value: Any) -> tuple[bytes, Any]:
        try:
            return _encode(value), value
        except TypeError as error:
            raise CannotTravel(str(error)) from None

    def decode(self, body: bytes | msgspec.Raw) -> Any:
        return msgspec.json.decode(body)


class Network:
    """Routers by node. Messages arrive in order, after `delay` seconds, unless `drops` returns True."""

    def __init__(self) -> None:
        self.routers: dict[Node, Router] = {}
        self.delay = 0.0
        self.drops: Callable[[RemoteMessage], bool] = lambda message: False
        self.sent: list[RemoteMessage] = []

    def post(self, origin: Node, target: Node, message: RemoteMessage) -> None:
        self.sent.append(message)
        if self.drops(message):
            return
        # Messages go to the name of a node, whatever its start.
        for node, router in self.routers.items():
            if node.name == target.name and router.pid.process is not None:
                send_after(router.pid, (origin, _encode(message)), self.delay)

    async def start(self, name: str, incarnation: str = "1") -> RemoteProcesses:
        """Start a node, or restart the process of its router. Return its part of the remote processes."""
        node = Node(name, incarnation)
        router = self.routers.setdefault(node, Router(node, self))
        await RouterServer.start(router)
        return router.processes

    def count(self, kind: type) -> int:
        return sum(isinstance(each, kind) for each in self.sent)


class Router:
    """The router of a node, which outlives its process."""

    def __init__(self, node: Node, network: Network) -> None:
        self.node = node
        self.network = network
        self.answers = Json()
        self.pid: Pid
        self.processes: RemoteProcesses

    def post(self, node: Node, message: RemoteMessage) -> None:
        self.network.post(self.node, node, message)


class RouterServer(GenServer[None]):
    async def init(self, router: Router) -> None:
        router.pid = current_pid()
        self.remote = router.processes = RemoteProcesses(router)
        on_exit(self.remote.close)

    async def handle_info(self, message: Any) -> None:
        match message:
            case Tick():
                self.remote.tick()
            case (Node() as origin, bytes(data)):
                self.remote.receive(origin, _decode(data))


class Shop(GenServer[list[Any]]):
    async def init(self) -> None:
        self.state = []

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        match request:
            case "who":
                return Reply(repr(sender.pid))
            case "all":
                return Reply(self.state)
            case "late":
                self.late = sender
                return NoReply()
            case "crash":
                raise ValueError("no such room")
            case "stop":
                return Stop("closed", reply="closing")
            case "object":
                return Reply(object())
        return Reply(["echo", request])

    async def handle_cast(self, message: Any) -> None:
        if message == "answer now":
            reply(self.late, "late answer")
        self.state.append(["cast", message])

    async def handle_info(self, message: Any) -> None:
        self.state.append(["info", message])


def pid_at(here: RemoteProcesses, there: RemoteProcesses, pid: Pid) -> RemotePid:
    """Let a pid of the node `there` travel to the node `here`."""
    found = here.decode_process(there.encode_process(pid))
    assert isinstance(found, RemotePid)
    return found


async def two_nodes() -> tuple[Network, RemoteProcesses, RemoteProcesses]:
    network = Network()
    return network, await network.start("a"), await network.start("b")


# Pids


class Joined(msgspec.Struct):
    player: ProcessAddress
    friend: ProcessAddress | None = None


@in_process()
async def test_a_pid_in_a_declared_struct_is_a_remote_pid_there_and_the_pid_again_at_home() -> None:
    _, a, b = await two_nodes()
    body = msgspec.json.encode(Joined(current_pid()), enc_hook=a.enc_hook)
    there = msgspec.json.decode(body, type=Joined, dec_hook=b.dec_hook)
    assert isinstance(there.player, RemotePid)
    assert there.friend is None
    assert repr(there.player) == f"<pid {current_pid().number} on a>"
    body = msgspec.json.encode(Joined(there.player, there.player), enc_hook=b.enc_hook)
    home = msgspec.json.decode(body, type=Joined, dec_hook=a.dec_hook)
    assert home.player is current_pid()
    assert home.friend is current_pid()


@in_process()
async def test_remote_pids_of_one_process_are_equal() -> None:
    _, a, b = await two_nodes()
    one, two = spawn(idle), spawn(idle)
    assert pid_at(b, a, one) == pid_at(b, a, one)
    assert {pid_at(b, a, one): 1}[pid_at(b, a, one)] == 1
    assert pid_at(b, a, one) != pid_at(b, a, two)
    assert pid_at(b, a, one) != one


@in_process()
async def test_a_value_that_is_no_pid_does_not_fit_a_field_for_a_pid() -> None:
    _, a, _ = await two_nodes()
    with pytest.raises(NotImplementedError, match="of type object cannot travel"):
        msgspec.json.encode(Joined(object()), enc_hook=a.enc_hook)  # type: ignore[arg-type]
    for value in (b"7", b'["a","1"]', b'["a",1,2]'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(b'{"player":%b}' % value, type=Joined, dec_hook=a.dec_hook)


@in_process()
async def test_functions_that_need_a_pid_of_this_runtime_refuse_a_remote_pid() -> None:
    _, a, b = await two_nodes()
    with pytest.raises(InvalidArgument, match=r"write monitor\(pid\) to learn of the end"):
        link(pid_at(b, a, spawn(idle)))  # type: ignore[arg-type]


@in_process()
async def test_only_processes_whose_pids_have_left_a_node_get_messages_from_outside() -> None:
    network, a, b = await two_nodes()
    shop = await Shop.start()
    guessed = RemotePid(Node("a", "1"), shop.number, network.routers[Node("b", "1")])
    cast(guessed, "hello")
    await trio.sleep(0.1)
    assert await call(shop, "all") == []
    assert current_runtime().statistics()["dead_letters"] == 1
    with pytest.raises(NoProcess):
        await call(guessed, "all")
    assert (await down(monitor(guessed))).reason is NOPROC
    cast(pid_at(b, a, shop), "hello")
    await trio.sleep(0.1)
    assert await call(shop, "all") == [["cast", "hello"]]


@in_process()
async def test_a_pid_that_leaves_through_one_router_comes_back_through_another() -> None:
    _, a, b = await two_nodes()
    other, second = Network(), Network()
    a2, b2 = await other.start("a"), await other.start("b")
    shop = await Shop.start()
    forwarded = b2.decode_process(b.encode_process(pid_at(b, a, shop)))
    cast(forwarded, "hello")
    await trio.sleep(0.1)
    assert await call(shop, "all") == [["cast", "hello"]]
    assert a2.statistics()["exported_pids"] == 1
    del second


@in_process()
async def test_a_pid_of_a_process_that_has_long_ended_is_a_dead_pid_at_home() -> None:
    _, a, b = await two_nodes()
    pid = spawn(idle)
    travelling = b.encode_process(pid_at(b, a, pid))
    kill(pid)
    await settle()
    del pid
    assert a.statistics()["exported_pids"] == 0
    home = a.decode_process(travelling)
    assert isinstance(home, Pid)
    assert (await down(monitor(home))).reason is NOPROC


# Messages


@in_process()
async def test_casts_and_messages_arrive_in_order() -> None:
    network, a, b = await two_nodes()
    network.delay = 0.5
    shop = await Shop.start()
    far = pid_at(b, a, shop)
    cast(far, 1)
    send(far, 2)
    send_after(far, 3, 1)
    await trio.sleep(3)
    assert await call(shop, "all") == [["cast", 1], ["info", 2], ["info", 3]]


@in_process()
async def test_a_message_that_cannot_travel_raises_at_its_sender() -> None:
    network, a, b = await two_nodes()
    far = pid_at(b, a, await Shop.start())
    for verb in (send, cast):
        with pytest.raises(CannotTravel):
            verb(far, object())
    with pytest.raises(CannotTravel):
        await call(far, object())
    assert network.sent == []


@in_process()
async def test_a_message_for_an_earlier_start_of_a_node_is_a_dead_letter() -> None:
    network, a, b = await two_nodes()
    shop = await Shop.start()
    far = pid_at(b, a, shop)
    del network.routers[Node("a", "1")]
    again = await network.start("a", "2")
    again.encode_process(shop)
    cast(far, "hello")
    await trio.sleep(0.1)
    assert await call(shop, "all") == []
    assert current_runtime().statistics()["dead_letters"] == 1


# Calls


@in_process()
async def test_a_call_of_a_remote_pid_returns_the_answer() -> None:
    network, a, b = await two_nodes()
    network.delay = 0.5
    far = pid_at(b, a, await Shop.start())
    before = trio.current_time()
    assert await call(far, 7) == ["echo", 7]
    assert trio.current_time() - before == 1.0
    assert await call(far, "who") == f"<pid {current_pid().number} on b>"
    assert a.statistics() == {**a.statistics(), "monitors_of_other_nodes": 0, "process_calls": 0}


@in_process()
async def test_a_server_answers_a_remote_caller_later() -> None:
    _, a, b = await two_nodes()
    shop = await Shop.start()
    far = pid_at(b, a, shop)
    send_after(far, "x", 1)
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await call(far, "late") == "late answer"

        nursery.start_soon(ask)
        await trio.sleep(1)
        cast(shop, "answer now")


@in_process()
async def test_an_answer_after_the_time_limit_is_dropped_and_counted() -> None:
    network, a, b = await two_nodes()
    network.delay = 0.6
    with pytest.raises(CallTimeout) as caught:
        await call(pid_at(b, a, await Shop.start()), 7, timeout=1)
    assert caught.value.may_have_run
    await trio.sleep(1)
    assert b.statistics()["late_answers"] == 1
    await nothing_arrives()


@in_process()
async def test_the_server_stops_waiting_with_its_remote_caller() -> None:
    _, a, b = await two_nodes()
    shop = await Shop.start()
    with pytest.raises(CallTimeout):
        await call(pid_at(b, a, shop), "late", timeout=1)
    await trio.sleep(0.1)
    assert current_runtime().graph.watchers_of(shop) == ()
    cast(shop, "answer now")
    await trio.sleep(0.1)
    assert current_runtime().statistics()["late_answers"] == 1


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ("crash", RemoteCrash("a", "ValueError: no such room")),
        (
            "object",
            RemoteCrash("a", "CannotTravel: Encoding objects of type object is unsupported"),
        ),
    ],
)
@in_process(log=False)
async def test_a_crash_of_the_server_ends_a_remote_call(request_: str, reason: object) -> None:
    _, a, b = await two_nodes()
    with pytest.raises(ServerExit) as caught:
        await call(pid_at(b, a, await Shop.start()), request_)
    assert caught.value.reason == reason
    assert caught.value.may_have_run
    assert current_runtime().statistics()["timers"] == 0


@in_process(log=False)
async def test_a_server_answers_a_remote_caller_when_it_stops() -> None:
    _, a, b = await two_nodes()
    assert await call(pid_at(b, a, await Shop.start()), "stop") == "closing"


@in_process()
async def test_a_call_of_a_process_that_has_ended_raises_no_process() -> None:
    _, a, b = await two_nodes()
    pid = spawn(idle)
    far = pid_at(b, a, pid)
    kill(pid)
    with pytest.raises(NoProcess, match="this process has ended") as caught:
        await call(far, 7)
    assert not caught.value.may_have_run


@in_process()
async def test_a_lost_node_ends_calls_of_its_processes() -> None:
    network, a, b = await two_nodes()
    network.drops = lambda message: True
    far = pid_at(b, a, await Shop.start())

    async def lose() -> None:
        await trio.sleep(2)
        b.node_down(Node("a", "1"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        with pytest.raises(ServerExit) as caught:
            await call(far, 7)
    assert caught.value.reason is NOCONNECTION
    assert caught.value.may_have_run


@in_process()
async def test_the_first_outcome_of_a_call_counts() -> None:
    network, a, b = await two_nodes()
    network.drops = lambda message: True
    far = pid_at(b, a, await Shop.start())

    async def ask() -> None:
        assert await call(far, 7) == "first"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await settle()
        (request,) = network.sent
        assert isinstance(request, ProcessRequest)
        b.receive(Node("a", "1"), ProcessResponse(id=request.id, body=msgspec.Raw(b'"first"')))
        b.receive(Node("a", "1"), ProcessResponse(id=request.id, body=msgspec.Raw(b'"second"')))
        b.node_down(Node("a", "1"))


@in_process(log=False)
async def test_the_crash_of_a_server_with_a_remote_caller_leaves_no_garbage() -> None:
    _, a, b = await two_nodes()
    crashes: list[weakref.ref[BaseException]] = []

    class Broken(Exception):
        def __init__(self) -> None:
            crashes.append(weakref.ref(self))

    class Fragile(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Any:
            raise Broken

    far = pid_at(b, a, await Fragile.start())
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ServerExit):
            await call(far, 7)
        await settle()
        assert crashes[0]() is None
    finally:
        gc.enable()


@in_process()
async def test_a_call_of_a_remote_pid_needs_a_time_limit() -> None:
    _, a, b = await two_nodes()
    with pytest.raises(InvalidOption, match="timeout=inf; write a finite number of seconds"):
        await call(pid_at(b, a, spawn(idle)), 7, timeout=float("inf"))


# Monitors


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, KILL, "no disk", Shutdown({"left": 1})])
@in_process(log=False)
async def test_the_end_of_a_monitored_process_arrives_with_its_reason(reason: ExitReason) -> None:
    network, a, b = await two_nodes()
    network.delay = 0.1
    shop = await Shop.start()
    far = pid_at(b, a, shop)
    ref = monitor(far)
    await trio.sleep(1)
    send_exit(shop, reason if reason is not NORMAL else SHUTDOWN)
    expected = (
        {KILL: KILLED, NORMAL: SHUTDOWN}.get(reason, reason)
        if isinstance(reason, Reason)
        else reason
    )
    assert await down(ref) == Down(ref, None, expected, far)
    assert b.statistics()["monitors"] == a.statistics()["monitors_of_other_nodes"] == 0


@in_process()
async def test_a_monitor_of_a_process_that_has_ended_fires_with_noproc() -> None:
    _, a, b = await two_nodes()
    pid = spawn(idle)
    far = pid_at(b, a, pid)
    kill(pid)
    ref = monitor(far)
    assert (await down(ref)).reason is NOPROC


@in_process()
async def test_demonitor_removes_the_monitor_on_the_other_node() -> None:
    _network, a, b = await two_nodes()
    shop = await Shop.start()
    ref = monitor(pid_at(b, a, shop))
    await trio.sleep(1)
    assert a.statistics()["monitors_of_other_nodes"] == 1
    assert demonitor(ref)
    await trio.sleep(1)
    assert a.statistics()["monitors_of_other_nodes"] == 0
    assert current_runtime().graph.watchers_of(shop) == ()
    kill(shop)
    await nothing_arrives(100)


@in_process()
async def test_the_end_of_the_monitoring_process_removes_the_monitor_on_the_other_node() -> None:
    network, a, b = await two_nodes()
    far = pid_at(b, a, await Shop.start())

    async def watcher() -> None:
        monitor(far)
        await trio.sleep(1)

    await wait_exit(spawn(watcher))
    await trio.sleep(1)
    assert a.statistics()["monitors_of_other_nodes"] == b.statistics()["monitors"] == 0
    assert network.count(Unwatch) == 1


@in_process()
async def test_a_watch_is_repeated_until_it_is_confirmed() -> None:
    network, a, b = await two_nodes()
    shop = await Shop.start()
    network.drops = lambda message: isinstance(message, Watch) and network.count(Watch) < 3
    ref = monitor(pid_at(b, a, shop))
    await trio.sleep(10)
    assert network.count(Watch) == 3
    assert network.count(Watching) == 1
    kill(shop)
    assert (await down(ref)).reason is KILLED


@pytest.mark.parametrize("lost", [Watch, Watching])
@in_process()
async def test_a_monitor_without_a_confirmation_fires_with_noconnection(lost: type) -> None:
    network, a, b = await two_nodes()
    network.drops = lambda message: isinstance(message, lost)
    before = trio.current_time()
    ref = monitor(pid_at(b, a, await Shop.start()))
    assert (await down(ref)).reason is NOCONNECTION
    assert CONFIRM_TIMEOUT <= trio.current_time() - before <= CONFIRM_TIMEOUT + 1
    await nothing_arrives(100)


@in_process()
async def test_another_start_of_a_node_cannot_confirm_a_monitor() -> None:
    network, a, b = await two_nodes()
    network.drops = lambda message: True
    ref = monitor(pid_at(b, a, await Shop.start()))
    before = trio.current_time()
    b.receive(Node("a", "2"), Watching(ids=(ref.number,)))
    assert (await down(ref)).reason is NOCONNECTION
    assert trio.current_time() - before <= CONFIRM_TIMEOUT + 1


@in_process()
async def test_a_lost_report_of_an_end_is_noticed_at_the_next_check() -> None:
    network, a, b = await two_nodes()
    shop = await Shop.start()
    ref = monitor(pid_at(b, a, shop))
    await trio.sleep(1)
    network.drops = lambda message: isinstance(message, Ended)
    kill(shop)
    await trio.sleep(1)
    network.drops = lambda message: False
    before = trio.current_time()
    assert (await down(ref)).reason is NOPROC
    assert trio.current_time() - before <= RECHECK_INTERVAL + 1
    await nothing_arrives(100)


@pytest.mark.parametrize("delay", [0.0, 1.6])
@in_process()
async def test_a_monitor_of_a_long_lived_process_stays_confirmed(delay: float) -> None:
    network, a, b = await two_nodes()
    network.delay = delay
    shop = await Shop.start()
    ref = monitor(pid_at(b, a, shop))
    await trio.sleep(2 * delay)
    for _ in range(60):
        await nothing_arrives(RECHECK_INTERVAL / 6)
        assert a.statistics()["monitors_of_other_nodes"] == 1
    assert network.count(Watch) <= 11 * (1 + 2 * delay)
    kill(shop)
    assert (await down(ref)).reason is KILLED


@in_process()
async def test_a_monitor_survives_a_restart_of_the_other_router() -> None:
    network, a, b = await two_nodes()
    shop = await Shop.start()
    ref = monitor(pid_at(b, a, shop))
    await trio.sleep(1)
    kill(network.routers[Node("a", "1")].pid)
    await settle()
    again = await network.start("a")
    await nothing_arrives(2 * RECHECK_INTERVAL)
    assert again.statistics()["monitors_of_other_nodes"] == 1
    kill(shop)
    assert (await down(ref)).reason is KILLED


@in_process()
async def test_a_monitor_whose_removal_was_lost_is_forgotten() -> None:
    network, a, b = await two_nodes()
    shop = await Shop.start()
    ref = monitor(pid_at(b, a, shop))
    await trio.sleep(1)
    network.drops = lambda message: isinstance(message, Unwatch)
    demonitor(ref)
    await trio.sleep(2.5 * RECHECK_INTERVAL)
    assert a.statistics()["monitors_of_other_nodes"] == 1
    await trio.sleep(RECHECK_INTERVAL)
    assert a.statistics()["monitors_of_other_nodes"] == 0
    assert current_runtime().graph.watchers_of(shop) == ()


@in_process()
async def test_the_loss_of_a_node_fires_each_monitor_of_its_processes_once() -> None:
    network, a, b = await two_nodes()
    shops = [await Shop.start() for _ in range(250)]
    refs = [monitor(pid_at(b, a, shop)) for shop in shops]
    here = await network.start("c")
    other = monitor(pid_at(b, here, shops[0]))
    await trio.sleep(0.5)
    before = trio.current_time()
    b.node_down(Node("a", "1"))
    b.node_down(Node("a", "1"))
    assert [(await down(ref)).reason for ref in refs] == [NOCONNECTION] * 250
    assert trio.current_time() == before
    for shop in shops[1:]:
        kill(shop)
    await nothing_arrives(100)
    kill(shops[0])
    assert (await down(other)).reason is KILLED


@in_process()
async def test_the_loss_of_a_node_leaves_one_timer_for_the_other_monitors() -> None:
    network, a, b = await two_nodes()
    c = await network.start("c")
    monitor(pid_at(b, c, await Shop.start()))
    await trio.sleep(0.5)
    before = current_runtime().statistics()["timers"]
    for _ in range(3):
        lost = monitor(pid_at(b, a, await Shop.start()))
        await trio.sleep(2.25)
        b.node_down(Node("a", "1"))
        a.node_down(Node("b", "1"))
        assert (await down(lost)).reason is NOCONNECTION
    await trio.sleep(2.25)
    assert current_runtime().statistics()["timers"] == before


@in_process()
async def test_the_loss_of_a_watching_node_removes_its_monitors() -> None:
    _network, a, b = await two_nodes()
    shop = await Shop.start()
    monitor(pid_at(b, a, shop))
    await trio.sleep(1)
    a.node_down(Node("b", "1"))
    await settle()
    assert current_runtime().graph.watchers_of(shop) == ()
    assert a.statistics()["monitors_of_other_nodes"] == 0


@in_process()
async def test_a_monitor_of_a_process_of_an_earlier_start_fires_with_noconnection() -> None:
    network, a, b = await two_nodes()
    shop = await Shop.start()
    far = pid_at(b, a, shop)
    del network.routers[Node("a", "1")]
    (await network.start("a", "2")).encode_process(shop)
    before = trio.current_time()
    assert (await down(monitor(far))).reason is NOCONNECTION
    assert trio.current_time() - before < 1


@in_process()
async def test_the_end_of_the_own_router_fires_monitors_and_ends_calls() -> None:
    network, a, b = await two_nodes()
    shop = await Shop.start()
    far = pid_at(b, a, shop)
    ref = monitor(far)
    await trio.sleep(1)

    async def stop_router() -> None:
        await trio.sleep(1)
        kill(network.routers[Node("b", "1")].pid)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_router)
        with pytest.raises(ServerExit) as caught:
            await call(far, "late")
    assert caught.value.reason is NOCONNECTION
    assert (await down(ref)).reason is NOCONNECTION
    # Afterwards the pid still takes messages, which reach nobody.
    cast(far, "hello")
    assert (await down(monitor(far))).reason is NOCONNECTION
    with pytest.raises(ServerExit):
        await call(far, 7)
    # The next process of the router reaches it again.
    await network.start("b")
    assert await call(far, 7) == ["echo", 7]
    ref = monitor(far)
    await trio.sleep(1)
    kill(shop)
    assert (await down(ref)).reason is KILLED


@in_process()
async def test_a_node_without_monitors_has_no_timer() -> None:
    _network, a, b = await two_nodes()
    ref = monitor(pid_at(b, a, await Shop.start()))
    await trio.sleep(2.25)
    assert current_runtime().statistics()["timers"] > 0
    demonitor(ref)
    await trio.sleep(2.25)
    assert current_runtime().statistics()["timers"] == 0


# Exit reasons


class OutOfPaper(msgspec.Struct, frozen=True):
    printer: int


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unequal:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "<unequal>"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        *((each, each) for each in Reason),
        ("no disk", "no disk"),
        (None, None),
        ({"code": [1, 2.5]}, {"code": [1, 2.5]}),
        (Shutdown("left"), Shutdown("left")),
        (Shutdown(Shutdown(1)), Shutdown("Shutdown(detail=1)")),
        (Crash(ValueError("no room")), RemoteCrash("a", "ValueError: no room")),
        (RemoteCrash("b", "ValueError: x"), RemoteCrash("b", "ValueError: x")),
        (OutOfPaper(3), RemoteCrash("a", "OutOfPaper(printer=3)")),
        (("tuple", 1), RemoteCrash("a", "('tuple', 1)")),
        (Unequal(), RemoteCrash("a", "<unequal>")),
        (Crash(Mute()), RemoteCrash("a", "Crash, whose text raised RuntimeError")),
    ],
)
def test_exit_reasons_travel(reason: object, expected: object) -> None:
    arrived = msgspec.json.decode(msgspec.json.encode(encode_reason(reason, "a")))
    assert decode_reason(arrived) == expected


def test_a_long_reason_is_cut() -> None:
    encoded = encode_reason(Crash(ValueError("x" * 100_000)), "a")
    assert len(msgspec.json.encode(encoded)) < 3000
    assert len(msgspec.json.encode(encode_reason("x" * 100_000, "a"))) < 3000


@pytest.mark.parametrize("unknown", [None, 7, ["later", 1], ["reason", "bored"], []])
def test_a_reason_of_a_later_version_is_shown_as_text(unknown: object) -> None:
    reason = decode_reason(unknown)
    assert isinstance(reason, RemoteCrash)
    assert reason.text == repr(unknown)


def test_a_remote_crash_names_its_node() -> None:
    assert str(RemoteCrash("web-1", "ValueError: no room")) == "ValueError: no room (on web-1)"


@in_process()
async def test_stories_show_a_remote_pid() -> None:
    _, a, b = await two_nodes()
    far = pid_at(b, a, current_pid())
    assert describe({"player": far}) == f"{{'player': <pid {current_pid().number} on a>}}"


@in_process()
async def test_snapshots_and_the_observer_show_a_monitored_remote_pid() -> None:
    _, a, b = await two_nodes()
    shop = await Shop.start()
    monitor(pid_at(b, a, shop))
    shown = f"<pid {shop.number} on a>"
    view = (await snapshot()).find(current_pid())
    assert view is not None
    assert view.as_dict()["monitors"] == [shown]
    facts = facts_of(current_runtime(), current_pid())
    assert facts is not None
    assert facts["monitors"] == [shown]


async def a_day_of_two_nodes() -> None:
    """Monitors that fire and are removed, calls with and without an answer, and the end of a server and a node."""
    _, a, b = await two_nodes()
    shop, other = await Shop.start(), await Shop.start()
    far = pid_at(b, a, shop)
    refs = [monitor(far), monitor(far), monitor(pid_at(b, a, other))]
    assert await call(far, 7) == ["echo", 7]
    with pytest.raises(CallTimeout):
        await call(far, "late", timeout=1)
    cast(shop, "answer now")
    await trio.sleep(0.1)
    demonitor(refs[0])
    kill(shop)
    assert (await down(refs[1])).reason is KILLED
    b.node_down(Node("a", "1"))
    assert (await down(refs[2])).reason is NOCONNECTION


async def test_recordings_of_two_nodes_fit_the_schema_and_have_no_pid_of_another_node() -> None:
    async with open_runtime() as runtime:
        recorder = FlightRecorder(runtime, contents=True, receives=True)
        assert await wait_exit(spawn(a_day_of_two_nodes)) is NORMAL
        events = [msgspec.json.decode(line) for line in recorder.lines()]
    for event in events:
        check(event)
    (late,) = [event for event in events if event["kind"] == "late_answer"]
    assert late["to"] is None


async def test_the_laws_of_processes_hold_on_two_nodes() -> None:
    async with open_runtime() as runtime:
        laws = LawWatch(runtime, [Monitors(), Calls(), NothingLeft(), AnsweredOnce()])
        assert await wait_exit(spawn(a_day_of_two_nodes)) is NORMAL
        assert laws.check() is None
        assert laws.at_rest() is None
