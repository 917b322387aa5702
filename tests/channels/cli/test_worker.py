"""A worker of `ashtree serve --reload` whose application cannot be loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from channels import Endpoint
from channels.cli.worker import _load_or_explain, _Worker
from channels.entities import EntitySupervisor
from channels.pubsub.workers.control import ControlLine, Setup
from channels.pubsub.workers.places import PlaceSockets
from channels.pytest_plugin import OpenChannelTest
from tests.channels.entities.nodes import Counter
from tests.channels.rooms import UserSocket

BROKEN = "endpoint = (\n"
WRONG = """
from channels import Channel, Endpoint, Socket, handle_in
class RoomChannel(Channel):
    @handle_in("new_msg")
    async def new_msg(self):
        pass
class UserSocket(Socket):
    channels = {"room:*": RoomChannel}
endpoint = Endpoint(sockets={"/socket": UserSocket})
"""


class Line:
    """A line to the parent that keeps the sent messages."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> bool:
        self.sent.append(message)
        return True


def setup(*, replaces: bool) -> Setup:
    return Setup(
        id=1,
        place=1,
        host="127.0.0.1",
        port=4000,
        listening=[],
        grants=0,
        lock=0,
        lifeline=0,
        secret=b"",
        options={},
        replaces=replaces,
    )


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "a_broken_program.py"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BROKEN, "SyntaxError: '(' was never closed"),
        (WRONG, "RoomChannel.new_msg is declared for"),
        ("other = 1\n", "has no endpoint"),
        ("raise SystemError('x' * 50_000 + 'the end')", "xthe end"),
        ("import sys\nsys.exit(3)\n", 'a_broken_program.py", line 2, in <module>\n    sys.exit(3)'),
    ],
    ids=["syntax", "handler", "no endpoint", "long", "sys.exit"],
)
def test_only_a_first_worker_serves_the_problem_of_a_broken_application(
    broken: Path, text: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.write_text(text)
    first, later = Line(), Line()
    try:
        endpoint = _load_or_explain(
            "a_broken_program:endpoint", setup(replaces=False), cast(ControlLine, first)
        )
        sys.modules.pop("a_broken_program", None)
        with pytest.raises(SystemExit):
            _load_or_explain(
                "a_broken_program:endpoint", setup(replaces=True), cast(ControlLine, later)
            )
    finally:
        sys.modules.pop("a_broken_program", None)
    assert problem in str(endpoint.load_problem)
    assert (endpoint.development, endpoint.sockets, first.sent) == (True, {}, [])
    (message,) = later.sent
    assert message == {"type": "problem", "text": endpoint.load_problem}
    assert len(message["text"]) <= 10_005
    assert problem in capsys.readouterr().err


async def test_the_figures_of_a_worker_count_its_entities_with_any_arbiter(
    channel_test: OpenChannelTest,
) -> None:
    counters = EntitySupervisor("counters", Counter)
    endpoint = Endpoint(sockets={"/socket": UserSocket}, children=[counters])
    await channel_test(endpoint)
    for key in ("a", "b"):
        await counters.start(key)
    line = cast(ControlLine, Line())
    worker = _Worker(endpoint, line, cast(PlaceSockets, None), cast(PlaceSockets, None))
    assert (await worker._figures())["entities"] == 2
