"""A `Via` works wherever a pid or a name does."""

import pytest
import trio

from actors import (
    NOPROC,
    AlreadyStarted,
    Down,
    GenServer,
    NameTaken,
    NoProcess,
    NoSuchName,
    Pid,
    Reply,
    Runtime,
    Sender,
    Via,
    call,
    cast,
    current_pid,
    current_runtime,
    is_alive,
    kill,
    monitor,
    receive,
    register,
    send,
    send_after,
    spawn,
    unregister,
    whereis,
)
from tests.actors.helpers import dead_process, down, idle, in_process


class Slot(Via):
    """An address that at most one process has."""

    def __init__(self) -> None:
        self.pid: Pid | None = None

    def whereis(self, runtime: Runtime) -> Pid | None:
        return self.pid

    def register(self, pid: Pid) -> Pid | None:
        if self.pid is None or not is_alive(self.pid):
            self.pid = pid
            return None
        return self.pid

    def unregister(self, runtime: Runtime) -> None:
        self.pid = None


class Echo(GenServer[list[object]]):
    async def init(self) -> None:
        self.state = []

    async def handle_call(self, request: object, sender: Sender) -> Reply:
        return Reply((request, self.state))

    async def handle_cast(self, message: object) -> None:
        self.state.append(message)

    handle_info = handle_cast


@in_process()
async def test_a_via_is_an_address_for_every_kind_of_message() -> None:
    slot = Slot()
    slot.pid = await Echo.start()
    send(slot, "sent")
    cast(slot, "cast")
    send_after(slot, "later", 0)
    await trio.sleep(1)
    assert await call(slot, "request") == ("request", ["sent", "cast", "later"])
    ref = monitor(slot)
    assert whereis(slot) is slot.pid
    kill(slot.pid)
    assert (await down(ref)).name is slot


@pytest.mark.parametrize("ended", [False, True], ids=["nobody", "somebody who has ended"])
@in_process()
async def test_a_via_without_a_process_behaves_like_an_unknown_name(ended: bool) -> None:
    slot = Slot()
    slot.pid = await dead_process() if ended else None
    assert whereis(slot) is None
    cast(slot, "lost")
    with pytest.raises(NoSuchName):
        send(slot, "lost")
    with pytest.raises(NoProcess):
        await call(slot, "lost")
    assert await receive_down(slot) == NOPROC


async def receive_down(address: object) -> object:
    ref = monitor(address)
    message = await receive()
    assert isinstance(message, Down)
    assert message.ref is ref
    return message.reason


@in_process()
async def test_a_process_is_started_under_a_via_and_a_second_one_is_not() -> None:
    slot = Slot()
    pid = await Echo.start_link(name=slot)
    assert slot.pid is pid
    with pytest.raises(AlreadyStarted) as caught:
        await Echo.start_link(name=slot)
    assert caught.value.pid is pid
    assert caught.value.name is slot
    with pytest.raises(AlreadyStarted):
        spawn(idle, name=slot)


class Broken(Slot):
    def register(self, pid: Pid) -> Pid | None:
        self.pid = pid
        raise LookupError("no such table")


@in_process()
async def test_a_failing_via_starts_no_process() -> None:
    before, slot = current_runtime().processes(), Broken()
    with pytest.raises(LookupError):
        spawn(idle, name=slot)
    assert slot.pid is not None
    assert not is_alive(slot.pid)
    assert current_runtime().processes() == before


@in_process()
async def test_a_process_can_have_a_name_and_a_via_and_unregister_the_via() -> None:
    slot = Slot()
    register("plain")
    register(slot)
    assert whereis(slot) is whereis("plain") is current_pid()
    with pytest.raises(NameTaken) as caught:
        register(slot, await Echo.start())
    assert caught.value.pid is current_pid()
    unregister(slot)
    assert whereis(slot) is None
    assert whereis("plain") is current_pid()


class Reader(Via):
    def whereis(self, runtime: Runtime) -> Pid | None:
        return None


@in_process()
async def test_a_via_without_register_cannot_be_a_name() -> None:
    with pytest.raises(TypeError, match=r"cannot be the name of a process"):
        spawn(idle, name=Reader())
    with pytest.raises(TypeError, match=r"unregister\(\) cannot free it"):
        unregister(Reader())
    with pytest.raises(NotImplementedError, match=r"Nowhere has no method whereis"):
        whereis(Nowhere())


class Nowhere(Via):
    pass
