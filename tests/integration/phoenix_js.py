"""phoenix.js in Node, unmodified, driven from Python: one Node process for each client."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from tests.patience import PATIENCE

FOLDER = Path(__file__).parent / "node"


def require_node() -> str:
    """The path of Node; where it or the npm packages are missing, skip and say how to get them."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node: run the tests with `make test`, which gets it from PyPI")
    if not (FOLDER / "node_modules" / "ws").is_dir():
        pytest.skip(f"phoenix.js is not installed: run `npm install --prefix {FOLDER}`")
    return node


class Driver:
    """A client in a process of its own, which executes commands, and keeps its events until a test reads them."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=FOLDER,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._seen: queue.Queue[dict[str, Any]] = queue.Queue()
        self._unclaimed: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._seen.put(json.loads(line))

    def tell(self, command: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, **fields}) + "\n")
        self._process.stdin.flush()

    def expect(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first thing seen with these fields that no test has asked for; waits for it."""
        deadline = time.monotonic() + PATIENCE
        checked = 0
        while True:
            for index, seen in enumerate(self._unclaimed[checked:], checked):
                if seen["kind"] == kind and fields.items() <= seen.items():
                    return self._unclaimed.pop(index)
            checked = len(self._unclaimed)
            try:
                self._unclaimed.append(self._seen.get(timeout=deadline - time.monotonic()))
            except (queue.Empty, ValueError):
                raise AssertionError(f"no {kind} with {fields}, only {self._unclaimed}") from None

    def seen(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """All such things that are here already and no test has asked for; does not wait."""
        while not self._seen.empty():
            self._unclaimed.append(self._seen.get())
        return [
            one for one in self._unclaimed if one["kind"] == kind and fields.items() <= one.items()
        ]

    def take(self, *kinds: str) -> list[dict[str, Any]]:
        """Return, in order, everything of these kinds that is here and no test has asked for; does not wait."""
        while not self._seen.empty():
            self._unclaimed.append(self._seen.get())
        taken = [one for one in self._unclaimed if one["kind"] in kinds]
        self._unclaimed = [one for one in self._unclaimed if one["kind"] not in kinds]
        return taken


class PhoenixJs(Driver):
    """phoenix.js in Node."""

    def __init__(self, socket_url: str, package: str = "phoenix", **options: Any) -> None:
        # As patient as the test: phoenix.js gives up on an answer after ten seconds, which a busy machine may need.
        settings = json.dumps({"timeout": PATIENCE * 1000, **options})
        super().__init__([require_node(), "client.mjs", package, socket_url, settings])
        self._ids = itertools.count()

    def connect(self) -> Self:
        self.tell("connect")
        self.expect("open")
        return self

    def join(self, topic: str, payload: Any = None) -> tuple[str, Any]:
        """Join and return how the join was answered: its status and its response."""
        self.tell("join", topic=topic, payload=payload or {})
        return self.joined(topic)

    def join_durably(self, topic: str, payload: Any = None) -> tuple[str, Any]:
        """Join with the helper for durable topics, which sends the last position at each join."""
        self.tell("join", topic=topic, payload=payload or {}, durable=True)
        return self.joined(topic)

    def join_present(self, topic: str, payload: Any) -> None:
        """Join with phoenix.js's class `Presence` on the channel, which `present` asks."""
        self.tell("join", topic=topic, payload=payload, presence=True)
        assert self.joined(topic)[0] == "ok"

    def present(self, topic: str) -> dict[str, Any]:
        """Return the list of phoenix.js's `Presence` now, by key."""
        number = next(self._ids)
        self.tell("list", id=number, topic=topic)
        presences: dict[str, Any] = self.expect("list", id=number)["presences"]
        return presences

    def joined(self, topic: str) -> tuple[str, Any]:
        """Return the answer to the next join of the topic, which can be a join that phoenix.js made."""
        answer = self.expect("join", topic=topic)
        return answer["status"], answer["response"]

    def push(self, topic: str, event: str, payload: Any = None) -> int:
        """Push and return a number by which its reply can be asked for."""
        number = next(self._ids)
        self.tell("push", id=number, topic=topic, event=event, payload=payload or {})
        return number

    def push_until_answered(
        self, topic: str, event: str, payload: Any = None, *, timeout: float
    ) -> int:
        """Push with a key, again after each time limit, and return a number by which the reply can be asked for."""
        number = next(self._ids)
        fields = {"topic": topic, "event": event, "payload": payload or {}}
        self.tell("push until answered", id=number, timeout=timeout * 1000, **fields)
        return number

    def push_bytes(self, topic: str, event: str, data: bytes) -> int:
        """Push a binary payload, and return a number by which its reply can be asked for."""
        number = next(self._ids)
        self.tell("push", id=number, topic=topic, event=event, bytes=list(data))
        return number

    def reply(self, number: int) -> tuple[str, Any]:
        answer = self.expect("reply", id=number)
        return answer["status"], answer["response"]

    def request(self, topic: str, event: str, payload: Any = None) -> tuple[str, Any]:
        """Push and return the status and the response of the reply."""
        return self.reply(self.push(topic, event, payload))

    def message(self, topic: str, event: str) -> Any:
        """The payload of the next such event."""
        return self.expect("message", topic=topic, event=event)["payload"]


@contextlib.contextmanager
def connected(socket_url: str, package: str = "phoenix", **options: Any) -> Iterator[PhoenixJs]:
    """A client whose connection is open."""
    with PhoenixJs(socket_url, package, **options) as client:
        yield client.connect()
