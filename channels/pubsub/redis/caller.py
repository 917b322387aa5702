"""The connection for commands that need their answer. A history stores its messages through it.

    caller = Caller(options, [pack_command("INFO", "server")], on_introduced)
    children = [process_spec(caller.main)]
    value = await caller.call(lambda: pack_command("GET", "key"), deadline=trio.current_time() + 5)

Commands are sent without waiting for the answers of earlier ones. At most `max_calls` are in flight. Further calls
wait, in the order of their arrival, until an earlier call is answered. Each call has a deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio

from actors.declared import declared
from channels.errors import ChannelsError
from channels.pubsub.redis.connection import ConnectionLost, Options, RedisConnection, RedisSession
from channels.pubsub.redis.protocol import Event, Reply, Script, pack_command
from channels.pubsub.redis.server_errors import ServerError

__all__ = ["CallFailed", "Caller"]


@declared("a command got no answer: {problem}")
class CallFailed(ChannelsError):
    """A command got no answer.

    Attributes:
        problem: why.
        was_sent: True if the server may have carried it out.
    """

    problem: str
    was_sent: bool


class _Call:
    __slots__ = ("done", "pack", "problem", "value", "was_sent")

    def __init__(self, pack: Callable[[], bytes]) -> None:
        self.pack = pack
        self.done = trio.Event()
        self.problem: str | None = None
        self.value: Any = None
        self.was_sent = False


class Caller(RedisConnection):
    """The connection for calls.

    Args:
        options: the settings.
        introduction: commands that are sent first on each new connection.
        on_introduced: takes the answers to the introduction, before any call is sent. It returns None, or the reason
            why this server cannot be used. If it returns a reason, `Caller` closes the connection and connects again.
        max_calls: the largest number of commands in flight.

    Attributes:
        is_usable: True while calls are sent at once.
    """

    name = "call"

    def __init__(
        self,
        options: Options,
        introduction: Sequence[bytes],
        on_introduced: Callable[[Sequence[Any]], str | None],
        *,
        max_calls: int,
    ) -> None:
        super().__init__(options)
        self._introduction = introduction
        self._on_introduced = on_introduced
        self._introducing: list[_Call] = []
        self._waiting: deque[_Call] = deque()
        self._awaited: deque[_Call] = deque()
        self._room = trio.Semaphore(max_calls)
        self.is_usable = False

    async def call(self, pack: Callable[[], bytes], *, deadline: float) -> Any:
        """Send a command, and return the answer of the server, which may be a `ServerError`.

        Args:
            pack: returns the command of `pack_command`, and does not raise. It is called on a connection whose
                introduction was answered.
            deadline: Trio's time at which the call fails.

        Raises:
            CallFailed: until the deadline there was no connection, no room or no answer. Or the connection was lost.
        """
        call: _Call | None = None
        with trio.move_on_at(deadline):
            await self._room.acquire()
            call = _Call(pack)
            self._waiting.append(call)
            self._marked.set()
            try:
                await call.done.wait()
            except BaseException:
                # Nobody waits for the call now. If it was sent already, it keeps its place until its answer comes.
                if not call.was_sent and not call.done.is_set():
                    self._waiting.remove(call)
                    self._room.release()
                raise
        if call is None or not call.done.is_set():
            raise self._late(call)
        if call.problem is not None:
            raise CallFailed(call.problem, was_sent=call.was_sent)
        return call.value

    async def run(
        self,
        script: Script,
        arguments: Callable[[], Sequence[str | int | bytes]],
        *,
        deadline: float,
    ) -> Any:
        """Run a script, and return the answer of the server, which may be a `ServerError`.

        Args:
            script: the script.
            arguments: returns the number of KEYS, then KEYS and ARGV. As for `call`, it is called on a connection whose
                introduction was answered.
            deadline: Trio's time at which the call fails.

        Raises:
            CallFailed: as for `call`.
        """

        def command(verb: str, name: str) -> Callable[[], bytes]:
            return lambda: pack_command(verb, name, *arguments())

        answer = await self.call(command("EVALSHA", script.sha), deadline=deadline)
        if isinstance(answer, ServerError) and answer.code == "NOSCRIPT":
            # The server does not have the script: it has restarted, or a user flushed its scripts.
            answer = await self.call(command("EVAL", script.text), deadline=deadline)
        return answer

    def _late(self, call: _Call | None) -> CallFailed:
        if call is not None and call.was_sent:
            return CallFailed("the server did not answer in time", was_sent=True)
        if self.is_usable:
            return CallFailed("too many other commands waited for their answers", was_sent=False)
        problem = self.problem or "it has not answered yet"
        return CallFailed(f"the server is away: {problem}", was_sent=False)

    # The connection

    def _begin(self, session: RedisSession) -> None:
        self._introducing = [_Call(partial(bytes, command)) for command in self._introduction]
        self._marked.set()

    def _take(self, session: RedisSession) -> bytes:
        if self.is_usable:
            calls, self._waiting = self._waiting, deque()
        else:
            calls = deque(each for each in self._introducing if not each.was_sent)
        if not calls:
            return b""
        data = b"".join([call.pack() for call in calls])
        for call in calls:
            call.was_sent = True
        self._awaited += calls
        session.protocol.calling(len(calls))
        return data

    def _happened(self, session: RedisSession, event: Event) -> None:
        if type(event) is not Reply:
            super()._happened(session, event)
            return
        call = self._awaited.popleft()
        call.value = event.value
        call.done.set()
        if not self._introducing:
            self._room.release()
        elif call is self._introducing[-1]:
            problem = self._on_introduced([each.value for each in self._introducing])
            if problem is not None:
                raise ConnectionLost(problem)
            self._introducing = []
            self.is_usable = True
            self._marked.set()

    def _end(self, session: RedisSession) -> None:
        self.is_usable = False
        lost, self._awaited = self._awaited, deque()
        introducing, self._introducing = self._introducing, []
        # Only the sent calls are lost. The next connection sends those that still wait.
        for call in lost:
            if call not in introducing:
                call.problem = f"the connection was lost: {session.problem or 'it ended'}"
                call.done.set()
                self._room.release()
