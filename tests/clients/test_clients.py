"""Each client, unmodified, against a real server: `make test-clients`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.clients.clients import CLIENTS, FOLDER, Client, phoenix_js
from tests.integration.phoenix_js import require_node
from tests.integration.servers import ROOT, free_port
from tests.patience import PATIENCE, wait_until
from tests.proxies.deployment import ASHTREE

# Such as the phoenix.mjs in a clone of Phoenix.
BUILD = os.environ.get("PHOENIX_JS")
BUILDS = (phoenix_js(f"phoenix.js of {BUILD}", BUILD),) if BUILD else ()
DRIVERS = FOLDER / "drivers"
INSTALLED = ROOT / ".venv-clients"


def install(client: Client) -> Path:
    """Install a client of PyPI into a folder of its own, once, and return the folder.

    The requirements name all packages with their versions, so pip needs no others, and installs no newer ones.
    """
    folder = INSTALLED / client.package.replace("==", "-")
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        packages = (client.package, *client.also)
        partial = folder.with_name(f"{folder.name}.partial")
        subprocess.run([*pip, "install", "--no-deps", "--target", partial, *packages], check=True)
        partial.rename(folder)
    return folder


def bundle(client: Client, folder: Path) -> str:
    """Bundle a package as a web page would get it, and return the path of the file."""
    bundled = folder / "bundle.mjs"
    esbuild = FOLDER / "node_modules/.bin/esbuild"
    arguments = [client.package, "--bundle", "--format=esm", f"--outfile={bundled}"]
    subprocess.run([esbuild, *arguments, "--log-level=error"], cwd=FOLDER, check=True)
    return str(bundled)


def command(client: Client, url: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command of a driver, and its environment."""
    driver = str(DRIVERS / client.driver)
    if client.is_python:
        # Without the packages of this environment, of which some are newer.
        python = [sys.executable, "-S", driver, url, client.wire]
        return python, {**os.environ, "PYTHONPATH": f"{install(client)}:{ROOT}"}
    package = bundle(client, folder) if client.bundled else client.package
    return [require_node(), driver, url, package, *client.steps], {**os.environ}


class Server:
    """`ashtree serve` at one port, which a driver can restart."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self._log = log
        self._start()

    def _start(self) -> None:
        before = len(self.output())
        serve = ["serve", "tests.clients.server:endpoint", "--port", str(self.port)]
        with self._log.open("a") as log:
            self._process = subprocess.Popen([*ASHTREE, *serve], cwd=ROOT, stdout=log, stderr=log)
        wait_until(lambda: "Serving on" in self.output()[before:], self.output)

    def output(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


def drive(client: Client, server: Server, folder: Path) -> list[str]:
    """Run a driver to its end, and return the steps that held. Its errors are then in the file `errors`."""
    arguments, environment = command(client, f"ws://127.0.0.1:{server.port}", folder)
    steps: list[str] = []
    with (
        (folder / "errors").open("w") as stderr,
        subprocess.Popen(
            arguments, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as driver,
    ):
        hanging = threading.Timer(3 * PATIENCE, driver.kill)
        hanging.start()
        assert driver.stdout is not None
        for line in driver.stdout:
            mark, _, text = line.rstrip().partition(" ")
            if mark == ">":
                steps.append(text)
            elif mark == "!":
                server.restart()
        hanging.cancel()
    if driver.returncode != 0:
        steps.append(f"exit code {driver.returncode}")
    return steps


@pytest.mark.parametrize(
    "client", [*CLIENTS, *BUILDS], ids=lambda client: f"{client.name} on version {client.wire}"
)
def test_the_client_does_all_its_steps(client: Client, tmp_path: Path) -> None:
    server = Server(tmp_path / "server.log")
    try:
        steps = drive(client, server, tmp_path)
    finally:
        server.stop()
    assert steps == list(client.steps), (tmp_path / "errors").read_text() + server.output()
    versions = set(re.findall(r"'vsn': '([\d.]+)'", server.output()))
    assert versions <= {client.wire}
