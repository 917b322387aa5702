"""The clients that `make test-clients` drives, with their versions and the steps of their drivers.

The page `docs/reference/clients.md` has a row for each of them.
"""

from __future__ import annotations

import json
from pathlib import Path

from attrs import frozen

FOLDER = Path(__file__).parent
NPM: dict[str, str] = json.loads((FOLDER / "package.json").read_text())["dependencies"]

PHOENIX = ("connect", "join", "refused join", "reply", "broadcast")
PHOENIX_REST = ("presence", "leave", "crash", "restart", "heartbeat", "disconnect")


@frozen
class Client:
    """A client, the way to install it, and what its driver does.

    Attributes:
        name: its name on the page.
        package: its name in package.json, or its requirement, such as `chunnel==0.1.0`.
        driver: a file in the folder drivers.
        wire: the version of the protocol that it speaks, as its parameter `vsn`.
        steps: the steps of the driver, in their order.
        also: the libraries that it needs, with versions with which it works.
        bundled: True if Node does not load its modules, so that it needs a bundler, as in a page.
    """

    name: str
    package: str
    driver: str
    wire: str
    steps: tuple[str, ...]
    also: tuple[str, ...] = ()
    bundled: bool = False

    @property
    def is_python(self) -> bool:
        return self.driver.endswith(".py")

    @property
    def version(self) -> str:
        """The pinned version."""
        pinned = self.package if self.is_python else NPM[self.package]
        return pinned.rpartition("==" if self.is_python else "@")[2]


def phoenix_js(name: str, package: str, wire: str = "2.0.0", *, binary: bool = True) -> Client:
    steps = (*PHOENIX, *(("binary",) if binary else ()), *PHOENIX_REST)
    return Client(name=name, package=package, driver="phoenix.mjs", wire=wire, steps=steps)


CLIENTS = (
    phoenix_js("phoenix.js 1.3", "phoenix-1.3", binary=False),
    phoenix_js("phoenix.js 1.7", "phoenix-1.7"),
    phoenix_js("phoenix.js 1.8", "phoenix"),
    phoenix_js("@supabase/phoenix", "@supabase/phoenix"),
    phoenix_js("phoenix-channels", "phoenix-channels", "1.0.0", binary=False),
    phoenix_js("phoenix-socket", "phoenix-socket", "1.0.0", binary=False),
    Client(
        name="@absinthe/socket",
        package="@absinthe/socket",
        driver="absinthe.mjs",
        wire="2.0.0",
        steps=("query", "refused query", "mutation", "subscription", "restart", "cancel"),
    ),
    Client(
        name="phx-live-state",
        package="phx-live-state",
        driver="live_state.mjs",
        wire="2.0.0",
        steps=("join", "patch", "refresh", "crash", "restart"),
        bundled=True,
    ),
    Client(
        name="y-phoenix-channel",
        package="y-phoenix-channel",
        driver="yjs.mjs",
        wire="2.0.0",
        steps=("join", "edit", "late editor", "awareness", "crash", "restart", "leave"),
    ),
    Client(
        name="chunnel",
        package="chunnel==0.1.0",
        driver="chunnel_driver.py",
        wire="1.0.0",
        steps=(*PHOENIX, "crash", "leave", "heartbeat"),
        also=("websockets==17.4",),
    ),
    Client(
        name="phx-events",
        package="phx-events==0.4.1",
        driver="phx_events_driver.py",
        wire="1.0.0",
        steps=("join", "refused join", "broadcast"),
        # It asks for websockets 9.1, which does not run on Python 3.10 and later.
        also=("orjson==3.13.0", "websockets==10.4"),
    ),
    Client(
        name="phxsocket",
        package="phxsocket==0.1.5",
        driver="phxsocket_driver.py",
        wire="1.0.0",
        steps=(*PHOENIX, "crash", "restart", "leave", "heartbeat", "disconnect"),
        also=("websockets==17.4",),
    ),
    *(
        Client(
            name="phoenix-channels-python-client",
            package="phoenix-channels-python-client==0.4.1",
            driver="python_client_driver.py",
            wire=wire,
            steps=(*steps, "crash", "restart", "leave", "heartbeat"),
            also=(
                "annotated-types==0.8.0",
                "pydantic==2.14.4",
                "pydantic-core==2.50.5",
                "typing-extensions==4.16.0",
                "typing-inspection==0.4.5",
                "websockets==17.4",
            ),
        )
        for wire, steps in (("1.0.0", PHOENIX), ("2.0.0", PHOENIX[:-1]))
    ),
)
