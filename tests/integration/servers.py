"""Examples served by processes of their own, each of which is stopped whatever happens."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.patience import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]

_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Server:
    """An example that is served until it is stopped, killed or started again.

    The first start takes any free port; later ones take the same port again.
    """

    def __init__(self, module: str, *, log: Path) -> None:
        self.module = module
        self.port = 0
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that serves now."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/socket"

    def output(self) -> str:
        """Everything that was printed so far, by all starts."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> None:
        """Return once the address has been printed."""
        before = len(self.output())
        command = [sys.executable, "-m", self.module, "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        process = self._process

        def served_or_ended() -> bool:
            return _ADDRESS.search(self.output(), before) is not None or process.poll() is not None

        wait_until(served_or_ended, self.output)
        found = _ADDRESS.search(self.output(), before)
        assert found is not None, f"{self.module} has ended: {self.output()}"
        self.port = int(found[1])

    def kill(self) -> None:
        """End it as a power cut would: no clean-up, no close frames."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def stop(self) -> int:
        """End it in order, as its supervisor would, and return its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.module} did not stop: {self.output()}") from None


@contextlib.contextmanager
def serving(module: str, folder: Path) -> Iterator[Server]:
    """Serve an example at a free port; its output goes to a file in the folder."""
    server = Server(module, log=folder / f"{module}.log")
    server.start()
    try:
        yield server
    finally:
        server.stop()
