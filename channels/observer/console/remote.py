"""The connection of `ashtree observe` to an observer. It gets a ticket over HTTP, and then joins one channel."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

import msgspec
import trio

from channels.client.channel import ClientChannel
from channels.client.errors import (
    ChannelClosed,
    MessagesDropped,
    NotConnected,
    Refused,
)
from channels.client.events import Connected, Joined, Rejoined
from channels.client.socket import open_socket
from channels.errors import ChannelsError
from channels.observer.access import cookie_name

__all__ = ["NotAdmitted", "Remote"]

_TIMEOUT: Final = 5.0


class NotAdmitted(ChannelsError):
    """The server does not admit this program.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, url: str, status: int) -> None:
        super().__init__(
            f"the observer at {url} answered {status}; write the address that the server printed at its start, with "
            "?token=..."
        )
        self.status = status


class Remote:
    """A connection to the observer page of a server. `run` works in a thread of its own.

    Args:
        url: the address of the page, with its token.
        headers: further headers for a server with its own check.
        tell: a function that runs in the thread of `run`. It gets a kind and the data: `tick` and `process` from the
            channel, `about` for the answer about a process, `answer` for a refusal, `joined` and `lost` about the
            connection.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        tell: Callable[[str, Any], object],
    ) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        token = parse_qs(parts.query).get("token", [""])[0]
        path = parts.path.rstrip("/") or "/_ashtree/observer"
        self.page = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        scheme = "wss" if parts.scheme == "https" else "ws"
        self._socket = urlunsplit((scheme, parts.netloc, f"{path}/socket", "", ""))
        self._headers = {"Origin": f"{parts.scheme}://{parts.netloc}", **headers}
        if token:
            self._headers["Cookie"] = f"{cookie_name(token)}={token}"
        self._tell = tell
        self._ticket = ""
        self._view: dict[str, Any] = {}
        self._channel: ClientChannel | None = None
        self._nursery: trio.Nursery | None = None
        self._trio: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self.facts: dict[str, Any] = {}

    def admit(self) -> None:
        """Get a ticket. Blocks for at most five seconds.

        Raises:
            NotAdmitted: the server does not admit this program.
            OSError: there is no server.
        """
        request = urllib.request.Request(  # noqa: S310 # the user of the command gives the address
            f"{self.page}/ticket", method="POST", headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 # as above
                self.facts = msgspec.json.decode(answer.read())
        except urllib.error.HTTPError as error:
            raise NotAdmitted(self.page, error.code) from None
        self._ticket = self.facts["ticket"]

    def _params(self) -> dict[str, str]:
        """Return the parameters for one attempt to connect, with a new ticket.

        This blocks the thread. The thread only serves the connection, so blocking does no harm.
        """
        try:
            self.admit()
        except NotAdmitted as error:
            self._tell("lost", str(error))
        except OSError:
            # There is no server. The attempt to connect then fails too, and the client tries again.
            pass
        return {"ticket": self._ticket}

    def run(self) -> None:
        """Stay connected until `close`."""
        trio.run(self._main)

    async def _main(self) -> None:
        self._trio = trio.lowlevel.current_trio_token()
        with self._scope:
            try:
                async with (
                    open_socket(self._socket, params=self._params, wait=False) as socket,
                    socket.channel("observer", lambda: self._view, wait=False) as channel,
                    trio.open_nursery() as nursery,
                ):
                    self._channel, self._nursery = channel, nursery
                    nursery.start_soon(self._tell_losses, socket)
                    await self._read(channel)
                    nursery.cancel_scope.cancel()
            except (NotConnected, ChannelClosed, Refused) as error:
                self._tell("lost", str(error))

    async def _tell_losses(self, socket: Any) -> None:
        with socket.events() as events:
            async for event in events:
                if isinstance(event, Joined | Rejoined):
                    self._view["program"] = event.response["program"]
                    self._tell("joined", event.response)
                elif not isinstance(event, Connected):
                    self._tell("lost", str(event))

    async def _read(self, channel: ClientChannel) -> None:
        while True:
            try:
                async for message in channel:
                    if message.event == "tick" and message.payload.get("events"):
                        self._view["last"] = message.payload["events"][-1]["n"]
                    if message.event in ("tick", "process"):
                        self._tell(str(message.event), message.payload)
                return
            except MessagesDropped:
                # Ask for the view again. The next ticks then contain the rows.
                self.ask("view", self._view)

    # For the thread of the program

    def look(self, view: Mapping[str, Any]) -> None:
        """Ask for another view: `open`, `folded`, `search`."""
        self._view.update(view)
        self.ask("view", self._view)

    def ask(self, event: str, payload: Mapping[str, Any]) -> None:
        """Push an event, and pass its answer to `tell`. Any thread may call this."""
        if self._trio is not None:
            self._trio.run_sync_soon(self._push, event, dict(payload))

    def _push(self, event: str, payload: dict[str, Any]) -> None:
        if self._channel is not None and self._nursery is not None:
            self._nursery.start_soon(self._await_answer, self._channel, event, payload)

    async def _await_answer(
        self, channel: ClientChannel, event: str, payload: dict[str, Any]
    ) -> None:
        try:
            answer = await channel.push(event, payload)
        except Refused as refused:
            self._tell("answer", refused.payload.get("reason", "refused"))
        except ChannelsError as error:
            # No answer came in time, or the channel ended.
            self._tell("answer", str(error))
        else:
            if event == "process":
                self._tell("about", answer)

    def close(self) -> None:
        """End `run`. Any thread may call this."""
        if self._trio is not None:
            try:
                self._trio.run_sync_soon(self._scope.cancel)
            except trio.RunFinishedError:
                # The connection has already ended by itself.
                pass
