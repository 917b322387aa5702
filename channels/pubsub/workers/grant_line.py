"""The socket between a worker and the table of grants in the parent, and both of its ends.

    worker                                   parent
    [7, {"type":"Acquire", ...}]  ------->   carry out the request in `Grants`
                                  <-------   [7, {"type":"Owned","fence":1764522000000000}]
                                  <-------   [0, {"name":"worker.2","incarnation":"..."}]      this worker has ended

Requests and answers are lines of JSON. The control line closes if its socket is full, because its messages are few.
Here, a slow reader makes the other side wait: a worker sends at most `max_requests` requests before their answers, and
the parent reads no further requests of a worker while its answers wait.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

import msgspec
import trio

from channels.errors import ChannelsError
from channels.pubsub.adapter import Node
from channels.pubsub.workers import grants
from channels.pubsub.workers.grants import Grants, NoSession, Request

__all__ = ["GrantClient", "GrantLink", "GrantsUnavailable", "Watcher"]

_CHUNK = 64 * 1024
# The longest line: an answer with thousands of alarms.
_MAX_LINE = 4 * 1024 * 1024
# Bytes that wait for the other side, above which nothing more is read from it.
_MAX_WAITING = 256 * 1024

_AnyRequest: TypeAlias = (
    grants.Open | grants.Close | grants.Acquire | grants.Release | grants.Transfer
    | grants.SetAlarm | grants.DueAlarms | grants.ClearAlarm | grants.OwnerOf
)  # fmt: skip


class _Call(msgspec.Struct, array_like=True):
    number: int
    request: _AnyRequest


class _Answer(msgspec.Struct, array_like=True):
    number: int
    value: msgspec.Raw = msgspec.Raw(b"null")
    # The session of the request has ended.
    ended: bool = False


_encode = msgspec.json.Encoder().encode
_decode_call = msgspec.json.Decoder(_Call).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_node = msgspec.json.Decoder(Node).decode


class GrantsUnavailable(ChannelsError):
    """The parent did not answer a request.

    Attributes:
        problem: the reason.
        may_have_run: True if the parent may have carried it out.
    """

    def __init__(self, problem: str, *, may_have_run: bool) -> None:
        super().__init__(f"the parent of the workers did not answer: {problem}")
        self.problem = problem
        self.may_have_run = may_have_run


class _Lines:
    """Lines on a socket, in both directions."""

    def __init__(self, sock: socket.socket, receive: Callable[[list[bytes]], None]) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._receive = receive
        self._waiting = bytearray()
        self._rest = b""
        self._news = trio.Event()
        self._sent = trio.Event()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return len(self._waiting)

    def send(self, data: bytes) -> None:
        """Send whole lines soon."""
        self._waiting += data
        self._news.set()

    async def main(self) -> None:
        """Send and receive until the other side ends, or sends a line that is too long."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            await self._read()
            nursery.cancel_scope.cancel()

    async def _read(self) -> None:
        while True:
            while len(self._waiting) > _MAX_WAITING:
                self._sent = trio.Event()
                await self._sent.wait()
            try:
                await trio.lowlevel.wait_readable(self._socket)
                chunk = self._socket.recv(_CHUNK)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                return
            if not chunk:
                return
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > _MAX_LINE:
                return
            try:
                self._receive(lines)
            except msgspec.MsgspecError:
                # The other side is not a program of this version.
                return

    async def _write(self) -> None:
        while True:
            if not self._waiting:
                self._news = trio.Event()
                await self._news.wait()
            try:
                sent = self._socket.send(self._waiting[:_CHUNK])
            except BlockingIOError:
                sent = 0
            except OSError:
                # `_read` notices the end of the other side too.
                return
            if not sent:
                try:
                    await trio.lowlevel.wait_writable(self._socket)
                except trio.ClosedResourceError:
                    return
            del self._waiting[:sent]
            self._sent.set()


class GrantLink:
    """The parent's end.

    Args:
        sock: the parent's end of the socket pair. This object closes it.
        table: the table.
        holder: a number that no other process of this parent has had.
        now: returns the time of day in seconds.
    """

    def __init__(
        self,
        sock: socket.socket,
        table: Grants,
        holder: int,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._socket = sock
        self._table = table
        self._holder = holder
        self._now = now
        self._lines = _Lines(sock, self._asked)
        self._closed = False

    async def main(self) -> None:
        """Serve the worker until it closes its end, or sends a line that is no request."""
        try:
            await self._lines.main()
        finally:
            self.close()

    def _asked(self, lines: list[bytes]) -> None:
        now = int(self._now() * 1_000_000)
        self._lines.send(b"".join([_encode(self._answer(line, now)) + b"\n" for line in lines]))

    def _answer(self, line: bytes, now: int) -> _Answer:
        call = _decode_call(line)
        try:
            value = call.request.carry_out(self._table, self._holder, now)
        except NoSession:
            return _Answer(call.number, ended=True)
        return _Answer(call.number, msgspec.Raw(_encode(value)))

    def tell_lost(self, nodes: list[Node]) -> None:
        """Tell the worker that these nodes have ended, and that their keys are free."""
        if self._lines.waiting_bytes > _MAX_WAITING:
            # It has not read for so long that its entities may as well stop. Its keys stay with it until it ends.
            self.close()
        for node in nodes:
            self._lines.send(_encode(_Answer(0, msgspec.Raw(_encode(node)))) + b"\n")

    def close(self) -> None:
        """Disconnect the worker, whose leases end. May be called twice."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class Watcher(msgspec.Struct, frozen=True, eq=False):
    """The functions that a client calls. They must not block or raise.

    Attributes:
        on_node_lost: a worker has ended, and its keys are free.
        on_end: the parent has ended, or the client has stopped. The argument is the reason.
    """

    on_node_lost: Callable[[Node], None]
    on_end: Callable[[str], None]


class _Pending:
    __slots__ = ("answer", "done", "problem")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.answer: _Answer | None = None
        self.problem: str | None = None


class GrantClient:
    """The worker's end, which all arbiters of the worker share.

    Args:
        sock: the worker's end of the socket pair. The client does not close it.
        max_requests: requests without an answer. Further requests wait for their turn.

    Attributes:
        watchers: for each name of an `EntitySupervisor` the functions that the client calls.
    """

    def __init__(self, sock: socket.socket, *, max_requests: int = 1000) -> None:
        self.watchers: dict[str, Watcher] = {}
        self._lines = _Lines(sock, self._received)
        self._room = trio.Semaphore(max_requests)
        self._numbers = count(1)
        self._pending: dict[int, _Pending] = {}
        self._problem: str | None = "the process of the line has not started"
        self._decoders: dict[type[Request], Callable[[bytes], Any]] = {}

    async def main(self) -> None:
        """Receive answers until the parent ends. This is a process of the worker."""
        self._problem = None
        problem = "the line to the parent was closed in this worker"
        try:
            await self._lines.main()
            problem = "the parent of the workers has ended"
        finally:
            self._problem = problem
            for pending in self._pending.values():
                pending.problem = problem
                pending.done.set()
            for watcher in list(self.watchers.values()):
                watcher.on_end(problem)

    async def ask(self, request: Request, *, timeout: float) -> Any:
        """Send a request, and return the answer.

        Args:
            request: the request.
            timeout: seconds until this fails.

        Raises:
            NoSession: the session of the request has ended.
            GrantsUnavailable: the parent has ended, or did not answer in time.
        """
        pending: _Pending | None = None
        with trio.move_on_after(timeout):
            async with self._room:
                if self._problem is not None:
                    raise GrantsUnavailable(self._problem, may_have_run=False)
                number = next(self._numbers)
                line = _encode((number, request)) + b"\n"
                pending = self._pending[number] = _Pending()
                self._lines.send(line)
                try:
                    await pending.done.wait()
                finally:
                    del self._pending[number]
        if pending is None:
            raise GrantsUnavailable("too many other requests wait", may_have_run=False)
        answer = pending.answer
        if answer is None:
            raise GrantsUnavailable(
                pending.problem or f"it did not answer in {timeout:g} s", may_have_run=True
            )
        if answer.ended:
            raise NoSession
        return self._decoder(type(request))(answer.value)

    def _decoder(self, kind: type[Request]) -> Callable[[Any], Any]:
        found = self._decoders.get(kind)
        if found is None:
            found = self._decoders[kind] = msgspec.json.Decoder(kind.answer_type).decode
        return found

    def _received(self, lines: list[bytes]) -> None:
        for line in lines:
            answer = _decode_answer(line)
            if answer.number:
                pending = self._pending.get(answer.number)
                # Nobody may wait for the answer any more.
                if pending is not None:
                    pending.answer = answer
                    pending.done.set()
            else:
                node = _decode_node(answer.value)
                for watcher in list(self.watchers.values()):
                    watcher.on_node_lost(node)
