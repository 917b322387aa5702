"""The observer of an endpoint: its options, and the parts that the endpoint mounts.

endpoint = Endpoint(sockets={"/socket": UserSocket}, observer=Observer(control=True))
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import trio

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption
from actors.masking import SECRETS
from actors.runtime import current_runtime
from channels.errors import ChannelsError
from channels.filters import FilterRule, Keep
from channels.http.handover import not_found
from channels.observer.access import Access, Check
from channels.observer.channel import ObserverSocket
from channels.observer.chronicle import Chronicle
from channels.observer.memory import Memory
from channels.observer.pages import ObserverPages
from channels.observer.settings import ObserverSettings
from channels.observer.watcher import Watcher
from channels.recording.clients import record_channels
from channels.serving.mount import Mount
from channels.serving.plug import check_path
from channels.socket import Socket
from channels.transports.asgi_stream import ASGIApplication
from supervision.child_spec import ChildSpec
from supervision.recording.conversion import Snapshot
from supervision.recording.flight import FlightRecorder, recorder_of
from supervision.recording.reader.page import render_page

__all__ = ["Observer", "PhoenixMissing"]

_PLACE: Final = Path("node_modules") / "phoenix" / "priv" / "static" / "phoenix.mjs"
_SECRET_LENGTH = 8


class PhoenixMissing(ChannelsError, LookupError):
    """The observer page needs phoenix.js, and the observer did not find it.

    Attributes:
        places: the files that the observer looked for.
    """

    def __init__(self, places: list[Path]) -> None:
        folder = places[0].parents[4] if len(places[0].parents) > 4 else Path.cwd()
        super().__init__(
            f"the observer page needs phoenix.js, which is not in {', '.join(map(str, places))}; run "
            f"`npm install --prefix {folder} phoenix`, or write Observer(phoenix_js='.../phoenix.mjs')"
        )
        self.places = places


def _terms(rule: FilterRule) -> Sequence[str]:
    """Return the terms for the recorder. For a rule that lists allowed names, return a term that hides everything."""
    # The recorder does not support `Keep`. Every name contains the empty term, so this term hides everything.
    return ("",) if isinstance(rule, Keep) else (*SECRETS, *rule)


def _page_of(taken: Snapshot, contents: bool, subtitle: str) -> str:
    return render_page(taken.lines(), title="Timeline", subtitle=subtitle, contents=contents)


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Observer:
    """A page that shows the processes of an endpoint, and their crashes and restarts.

        endpoint = Endpoint(sockets={"/socket": UserSocket}, observer=Observer())

    The endpoint mounts the page at `path`. It prints the address of the page when it starts. The address has a token,
    and without the token the page shows nothing.

    Args:
        path: the path of the page.
        token: the token of the page, at least 8 characters. None derives the token from the endpoint's
            `secret_key_base`. Without that, each start of the program makes a new token.
        check: a function that decides about requests instead of a token. It gets the request's headers,
            `check(headers)`, sync or async. The names of the headers are in lower case. Only the result True gives
            access.
        control: allow the page to end, suspend and crash processes, and to set log levels.
        payloads: show the states of servers and the contents of messages. The endpoint's `filter_parameters` apply to
            every name in these. False shows only kinds of messages.
        phoenix_js: the file `phoenix.mjs` of the npm package `phoenix`. None looks in `node_modules` of the current
            folder and of the folder of the main program.
        record: keep the newest events in a `supervision.recording.flight.FlightRecorder`, for the timeline of the page.
            The recorder takes a few percent of the time of a busy program. If the runtime has a recorder, the page uses
            that recorder.
        interval: seconds between two updates of a page.
        max_pages: the largest number of pages that may watch at the same time. The observer refuses further pages.
        announce: a function that gets one line, the address of the page, at the first start. None writes it to stderr.

    One `Observer` belongs to one endpoint. It keeps its last events and crashes when its process restarts.

    A page may miss a process that lives for less than `interval`. The page keeps the last 500 events.
    """

    def __init__(
        self,
        *,
        path: str = "/_ashtree/observer",
        token: str | None = None,
        check: Check | None = None,
        control: bool = False,
        payloads: bool = False,
        phoenix_js: Path | str | None = None,
        record: bool = True,
        interval: float = 0.5,
        max_pages: int = 8,
        announce: Callable[[str], object] | None = None,
    ) -> None:
        self.path = path
        self.control = control
        self.payloads = payloads
        self.record = record
        self.interval = interval
        self.max_pages = max_pages
        self._token = token
        self._check = check
        self._phoenix_js = None if phoenix_js is None else Path(phoenix_js)
        self._announce = _print if announce is None else announce
        self._announced = False
        self.access = Access(token, check)
        self.memory = Memory()
        self._settings: ObserverSettings | None = None
        self._chronicle: Chronicle | None = None

    def __repr__(self) -> str:
        return f"<observer at {self.path}>"

    # For the endpoint

    def check_options(self) -> None:
        """Check the options.

        Raises:
            InvalidOption: an option has an invalid value.
            PhoenixMissing: phoenix.js is not installed.
        """
        check_path("Observer", self.path, example="/_ashtree/observer")
        if self._token is not None and self._check is not None:
            raise InvalidOption("Observer", "check", self._check, "either token or check")
        if self._token is not None and len(self._token) < _SECRET_LENGTH:
            raise InvalidOption(
                "Observer", "token", "...", f"a text of at least {_SECRET_LENGTH} characters"
            )
        if self._check is not None and not callable(self._check):
            raise InvalidOption("Observer", "check", self._check, "a function check(headers)")
        check_positive("Observer", "interval", self.interval)
        check_whole("Observer", "max_pages", self.max_pages)
        self._find_phoenix_js()

    def mounts(self) -> Mapping[str, Mount]:
        """Return the mount of the page's socket, by its path."""
        own = {"access": self.access, "settings": staticmethod(self._current_settings)}
        socket: type[Socket] = type("ObserverSocket", (ObserverSocket,), own)
        # Always check the origin: a page of another site must not connect, even with a ticket.
        return {f"{self.path}/socket": Mount(socket, check_origin=True, partitions=1)}

    def pages(self, inner: ASGIApplication | None) -> ASGIApplication:
        """Return an application with the page, and `inner` for all other paths."""
        return ObserverPages(
            path=self.path,
            access=self.access,
            phoenix_js=self._find_phoenix_js(),
            inner=not_found if inner is None else inner,
            facts=self._facts,
            timeline=self._timeline,
        )

    def child_spec(self, endpoint: Any, secret: bytes | None) -> ChildSpec:
        """Return the child spec of the observer, for the supervisor of the endpoint.

        Args:
            endpoint: the endpoint.
            secret: the first `secret_key_base` of the application; None if it has none.
        """
        if secret is not None:
            self.access.derive_from(secret)
        pubsub = endpoint.pubsub
        if pubsub.adapter.name == "workers" and not pubsub.node_name.endswith(".1"):
            # All workers have one address, and the first worker prints it.
            self._announced = True
        runtime = current_runtime()
        if self._chronicle is None or self._chronicle.runtime is not runtime:
            self._chronicle = Chronicle(self.memory, runtime)
        if self.record and recorder_of(runtime) is None:
            hide = _terms(endpoint.filter_parameters)
            recorder = FlightRecorder(runtime, frames=False, contents=self.payloads, hide=hide)
            # The recorded joins give the timeline the class and the topic of each channel.
            record_channels(recorder)
        self._settings = settings = ObserverSettings(
            endpoint=endpoint,
            access=self.access,
            memory=self.memory,
            chronicle=self._chronicle,
            control=self.control,
            payloads=self.payloads,
            interval=self.interval,
            max_pages=self.max_pages,
            topic=self.access.topic(),
            runtime=runtime,
        )
        return ChildSpec(
            "observer", Watcher.start_link, (settings,), {"name": (endpoint, "observer")}
        )

    def announce(self, address: tuple[str, int] | None, *, tls: bool) -> None:
        """Print the address of the page, once."""
        if self._announced:
            return
        self._announced = True
        where = self.path if address is None else self.url(address, tls=tls)
        if self.access.is_generated:
            self._announce(f"The observer page is at {where}?token={self.access.token}")
        elif self._check is None:
            # A token that the user chose does not belong in a log.
            self._announce(f"The observer page is at {where}?token=... (with your token)")
        else:
            self._announce(f"The observer page is at {where}")

    def url(self, address: tuple[str, int], *, tls: bool) -> str:
        """Return the URL of the page for the address of its listener."""
        host, port = address
        if host in ("0.0.0.0", "::"):  # noqa: S104 # shown, not bound
            host = "127.0.0.1"
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if tls else 'http'}://{shown}:{port}{self.path}"

    def _current_settings(self) -> ObserverSettings:
        assert self._settings is not None  # the endpoint has started
        return self._settings

    def _facts(self) -> dict[str, Any]:
        return {
            "interval": self.interval,
            "control": self.control,
            "payloads": self.payloads,
        }

    async def _timeline(self) -> str | None:
        """Return a page with a copy of the newest records; None if the program records nothing."""
        settings = self._settings
        recorder = None if settings is None else recorder_of(settings.runtime)
        if recorder is None:
            return None
        taken = recorder.snapshot()
        moment = datetime.fromtimestamp(recorder.runtime.now(), UTC)
        subtitle = f"a copy of the newest records, made at {moment:%Y-%m-%d %H:%M:%S} UTC"
        # Run this in a thread, because many records take seconds. The thread reads a copy.
        return await trio.to_thread.run_sync(_page_of, taken, self.payloads, subtitle)

    def _find_phoenix_js(self) -> Path:
        if self._phoenix_js is not None:
            places = [self._phoenix_js]
        else:
            main = getattr(sys.modules.get("__main__"), "__file__", None)
            folders = [Path.cwd(), *([Path(main).resolve().parent] if main else [])]
            places = [folder / _PLACE for folder in folders]
        for place in places:
            if place.is_file():
                return place
        raise PhoenixMissing(places)
