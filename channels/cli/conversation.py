"""The conversation of `ashtree connect`: lines of standard input to a channel, and its messages to standard output.

The module loads the client, so `ashtree connect` imports it only when it runs.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import trio
import typer
from attrs import define, field

from actors.errors import InvalidOption
from actors.text import printable
from channels.client.channel import ClientChannel, ClientPush
from channels.client.errors import ChannelClosed, MessagesDropped, NotConnected, Refused
from channels.client.events import Joined, JoinRejected, Lifecycle
from channels.client.feed import Feed
from channels.client.socket import ClientSocket, open_socket
from channels.errors import MISTAKES
from channels.messages import Binary, Message

__all__ = ["Conversation"]


@define
class Conversation:
    """One run of `ashtree connect`.

    Attributes:
        failures: the number of pushes that the server refused or did not answer, and of lines that are not valid.
        problem: the reason why there is no connection or no channel.
    """

    topic: str
    payload: Any
    is_terminal: bool = field(kw_only=True)
    stay: bool = field(kw_only=True)
    count: int | None = field(kw_only=True)
    failures: int = 0
    problem: str | None = None
    seen: int = 0

    def run(self, url: str, options: dict[str, Any]) -> None:
        """Run until the input ends, the channel ends, or the given number of messages has arrived.

        If this fails, raise the error itself, not the exception groups of the nurseries.
        """
        error: BaseException | None = None
        try:
            trio.run(self._main, url, options)
        except* KeyboardInterrupt:
            # Ctrl-C is the usual way to end this command.
            pass
        except* MISTAKES as errors:
            error = errors
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
        if isinstance(error, InvalidOption):
            raise typer.BadParameter(str(error).removeprefix("open_socket got "))
        if error is not None:
            raise error

    async def _main(self, url: str, options: dict[str, Any]) -> None:
        try:
            async with open_socket(url, **options) as socket:
                with socket.events() as events:
                    async with trio.open_nursery() as nursery:
                        self._note(f"connected over {socket.statistics().transport}")
                        nursery.start_soon(self._tell, events)
                        await self._talk(socket)
                        nursery.cancel_scope.cancel()
        except NotConnected as error:
            self.problem = str(error)

    async def _talk(self, socket: ClientSocket) -> None:
        try:
            async with (
                socket.channel(self.topic, self.payload) as channel,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._read_messages, channel, nursery.cancel_scope)
                await self._send_lines(channel)
                if self.stay:
                    await trio.sleep_forever()
                nursery.cancel_scope.cancel()
        except Refused as error:
            reason = _shown(error.payload)
            self.problem = f"the server refused the join of {self.topic}: {reason}"
        except ChannelClosed as error:
            self.problem = f"the channel {self.topic} is closed: {error.cause}"

    async def _read_messages(self, channel: ClientChannel, scope: trio.CancelScope) -> None:
        is_open = True
        while is_open:
            try:
                async for message in channel:
                    self._show_message(message)
                    self.seen += 1
                    if self.seen == self.count:
                        scope.cancel()
                        return
                is_open = False
            except MessagesDropped as dropped:
                self._note(str(dropped))
            except ChannelClosed:
                is_open = False
        self.problem = f"the channel {self.topic} is closed: {channel.cause}"
        scope.cancel()

    async def _send_lines(self, channel: ClientChannel) -> None:
        async with trio.open_nursery() as nursery:
            async for line in _lines():
                event, _, rest = line.strip().partition(" ")
                if not event:
                    continue
                try:
                    payload = json.loads(rest) if rest.strip() else {}
                except (ValueError, RecursionError) as error:
                    self.failures += 1
                    self._note(f'{event}: the payload is not JSON ({error}); write {{"name": 1}}')
                    continue
                try:
                    # The pushes keep the order of the lines. The tasks wait for the replies at the same time.
                    push = channel.push_nowait(event, payload)
                except MISTAKES as error:
                    self.failures += 1
                    self._note(str(error))
                else:
                    nursery.start_soon(self._await_reply, push)

    async def _await_reply(self, push: ClientPush) -> None:
        try:
            response = await push.wait()
        except Refused as refused:
            self.failures += 1
            self._show_reply(push.event, refused.status, refused.payload)
        except ChannelClosed:
            # The command prints the reason when it ends.
            self.failures += 1
        except MISTAKES as error:
            self.failures += 1
            self._note(str(error))
        else:
            self._show_reply(push.event, "ok", response)

    # Output

    def _show_message(self, message: Message) -> None:
        if self.is_terminal:
            _print(
                f"{typer.style(printable(str(message.event)), bold=True)} {_shown(message.payload)}"
            )
        else:
            _print(_line({"event": message.event, "payload": message.payload}))

    def _show_reply(self, event: str, status: str, response: Any) -> None:
        if self.is_terminal:
            colour = typer.colors.GREEN if status == "ok" else typer.colors.RED
            _print(f"{typer.style(printable(str(status)), fg=colour)} {event} {_shown(response)}")
        else:
            _print(_line({"reply_to": event, "status": status, "payload": response}))

    async def _tell(self, events: Feed[Lifecycle]) -> None:
        has_joined = False
        async for event in events:
            has_joined = has_joined or isinstance(event, Joined)
            # A refused first join ends the command, with the reason as its last line.
            if has_joined or not isinstance(event, JoinRejected):
                self._note(str(event))

    def _note(self, text: str) -> None:
        text = printable(text)
        sys.stderr.write(f"{typer.style(text, dim=True) if sys.stderr.isatty() else text}\n")
        sys.stderr.flush()


async def _lines() -> AsyncIterator[str]:
    """Yield the lines of standard input.

    A thread reads, because a non-blocking read would make the terminal non-blocking for the shell too. The thread reads
    the descriptor, because a thread that waits in `sys.stdin` would hold the lock of `sys.stdin` when the program ends.
    """
    rest = b""
    while data := await trio.to_thread.run_sync(os.read, 0, 65536, abandon_on_cancel=True):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _shown(payload: Any) -> str:
    return printable(json.dumps(payload, ensure_ascii=False, default=_default))


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_default)


def _default(value: Any) -> Any:
    if isinstance(value, Binary):
        return {"base64": base64.b64encode(value.data).decode()}
    raise TypeError(f"{value!r} has no JSON form")
