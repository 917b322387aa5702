"""The command `ashtree connect`: a client in the terminal, and in pipes."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import trio
import typer
from attrs import define, field

from actors.errors import InvalidOption
from actors.text import printable
from channels.cli.console import fail
from channels.errors import MISTAKES
from channels.messages import Binary, Message

if TYPE_CHECKING:
    from channels.client.channel import ClientChannel, ClientPush
    from channels.client.events import Lifecycle
    from channels.client.feed import Feed
    from channels.client.socket import ClientSocket

__all__ = ["add_connect_command"]

REFUSED = 3
"""The exit status in a pipe if the server refused a push, or did not answer a push in time."""

_HELP = """Join TOPIC of the socket at URL, print its messages, and send what you type.

    $ ashtree connect ws://localhost:4000/socket room:lobby --join '{"name": "ann"}'

Type an event and its payload in one line: new_msg {"body": "hello"}. Ctrl-D ends it.

In a pipe it prints one line of JSON for each message and each reply; all else goes to standard error.

The exit status is 0 at the end of the input, 1 if there is no connection or no channel, and 2 for wrong input. In a
pipe it is 3 if a push was refused or not answered.
"""


def add_connect_command(app: typer.Typer) -> None:
    """Add the command `ashtree connect` to the application."""
    app.command(
        "connect", help=_HELP, short_help="Join a topic, print its messages, and send yours."
    )(_connect)


def _connect(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as wss://example.org/socket.")],
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Such as room:lobby.")],
    *,
    join: Annotated[str, typer.Option(metavar="JSON", help="The payload of the join.")] = "{}",
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A parameter of the socket. Repeat it for more."),
    ] = None,
    auth_token_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The environment variable that holds the authToken."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help="A header of the request. Repeat it for more."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="For connecting and for replies.")
    ] = 10.0,
    longpoll: Annotated[bool, typer.Option("--longpoll", help="Use long polling.")] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="Go on after the end of the input, until Ctrl-C.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after N messages.")
    ] = None,
) -> None:
    if not topic:
        raise typer.BadParameter("TOPIC is empty; write one, such as room:lobby")
    options = {
        "params": dict(_pairs(each, "=", "--param") for each in param or ()),
        "headers": [_pairs(each, ":", "--header") for each in header or ()],
        "auth_token": _token(auth_token_env),
        "timeout": timeout,
        "connect_timeout": timeout,
        "transport": "longpoll" if longpoll else "websocket",
    }
    is_terminal = sys.stdout.isatty()
    session = _ConnectRun(
        topic, _json(join, "--join"), is_terminal=is_terminal, stay=stay, count=count
    )
    _run(session, url, options)
    if session.problem is not None:
        fail(session.problem, 1)
    # In a terminal the exit status is 0, because a person has seen the replies.
    raise SystemExit(REFUSED if session.failures and not is_terminal else 0)


def _run(session: _ConnectRun, url: str, options: dict[str, Any]) -> None:
    """Run a session. If it fails, raise the error itself, not the exception groups of the nurseries."""
    error: BaseException | None = None
    try:
        trio.run(session.main, url, options)
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


def _pairs(text: str, separator: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name:
        raise typer.BadParameter(f"{option} got {text!r}; write NAME{separator}VALUE")
    return name.strip(), value.strip() if separator == ":" else value


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise typer.BadParameter(
            f'{option} is not JSON; write an object in quotes: \'{{"name": "ann"}}\''
        ) from None


def _token(name: str | None) -> str | None:
    if name is None:
        return None
    token = os.environ.get(name)
    if not token:
        raise typer.BadParameter(f"the environment variable {name} is not set; export it")
    return token


@define
class _ConnectRun:
    """One run of the command.

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

    async def main(self, url: str, options: dict[str, Any]) -> None:
        """Run until the input ends, the channel ends, or the given number of messages has arrived."""
        # Imported here, because a server must not load the client.
        from channels.client.errors import NotConnected  # noqa: PLC0415
        from channels.client.socket import open_socket  # noqa: PLC0415

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
        from channels.client.errors import ChannelClosed, Refused  # noqa: PLC0415

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
        from channels.client.errors import ChannelClosed, MessagesDropped  # noqa: PLC0415

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
        from channels.client.errors import ChannelClosed, Refused  # noqa: PLC0415

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
        from channels.client.events import Joined, JoinRejected  # noqa: PLC0415

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
