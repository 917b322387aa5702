"""The bot of the examples, in a chat that is killed and comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from channels.client import blocking
from tests.integration.servers import ROOT, Server, serving
from tests.patience import PATIENCE, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving("examples.chat", tmp_path) as server:
        yield server


def heard(messages: blocking.BlockingFeed[dict[str, str]], text: str) -> None:
    """Read until the bot has said this."""
    for payload in messages:
        if payload["name"] == "bot":
            assert payload["body"] == text
            return


def test_without_a_chat_the_bot_says_once_what_to_start_and_connects_when_it_runs(
    server: Server, tmp_path: Path
) -> None:
    server.kill()
    log = tmp_path / "bot"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "examples.bot", server.socket_url]
        bot = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        wait_until(lambda: "`python -m examples.chat`" in log.read_text(), log.read_text)
        said = log.read_text().count("\n")
        server.start()
        wait_until(lambda: "joined room:lobby" in log.read_text(), log.read_text)
    finally:
        bot.kill()
        bot.wait(PATIENCE)
    text = log.read_text()
    # Before the advice, the bot has told four failures and four waits.
    assert (text.count("cannot connect: "), text.count("connecting again")) == (4, 4)
    # After it, only the connection and the join.
    assert text.count("\n") == said + 2, text


def test_the_bot_counts_answers_and_comes_back(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "bot"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "examples.bot", server.socket_url]
        bot = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        wait_until(lambda: "joined room:lobby" in log.read_text(), log.read_text)
        with (
            blocking.open_socket(server.socket_url, timeout=PATIENCE) as socket,
            socket.channel("room:lobby", {"name": "ann"}) as room,
            room.on("new_msg") as messages,
        ):
            room.push("new_msg", {"body": "hello"})
            room.push("new_msg", {"body": "!count"})
            heard(messages, "ann: 1")
            server.kill()
            server.start()
            wait_until(lambda: "joined room:lobby again" in log.read_text(), log.read_text)
            room.push("new_msg", {"body": "and again"})
            room.push("new_msg", {"body": "!count"})
            heard(messages, "ann: 2")
        bot.send_signal(signal.SIGINT)
        assert bot.wait(PATIENCE) == 0, log.read_text()
        assert log.read_text().endswith("bye\n")
    finally:
        if bot.poll() is None:
            bot.kill()
            bot.wait(PATIENCE)
