"""`ashtree connect` in a pipe and in a terminal, against a running server."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channels.cli import main
from tests.integration.forks import Program
from tests.integration.servers import ROOT, Server, serving
from tests.patience import PATIENCE

PROGRAM = [sys.executable, "-c", "from channels.cli import main; main()", "connect"]
COMMAND = ("tests.integration.ashtree", "connect")


def connect(
    server: Server, *arguments: str, typed: str = "", topic: str = "room:lobby"
) -> tuple[int, list[Any], str]:
    """Run the command in a pipe. Return its exit status, its lines as JSON, and its standard error."""
    (read_in, write_in), (read_out, write_out), (read_err, write_err) = (os.pipe() for _ in "ioe")
    # The pipes hold all that these tests write, so no end waits for another.
    with os.fdopen(write_in, "w", encoding="utf-8") as stdin:
        stdin.write(typed)
    program = Program(
        *COMMAND,
        server.socket_url,
        topic,
        *arguments,
        stdin=read_in,
        stdout=write_out,
        stderr=write_err,
    )
    for end in (read_in, write_out, write_err):
        os.close(end)
    with (
        os.fdopen(read_out, encoding="utf-8") as stdout,
        os.fdopen(read_err, encoding="utf-8") as stderr,
    ):
        lines, said = [json.loads(line) for line in stdout], stderr.read()
    return program.wait(PATIENCE), lines, said


@pytest.mark.parametrize("more", [(), ("--longpoll",)])
def test_what_is_piped_in_is_pushed_and_the_replies_come_out(
    conformance: Server, more: tuple[str, ...]
) -> None:
    typed = 'echo {"n": 1}\n\nping\necho {"text": "žluťoučký"}'
    code, lines, said = connect(conformance, *more, typed=typed)
    assert code == 0, said
    assert sorted(lines, key=str) == [
        {"reply_to": "echo", "status": "ok", "payload": {"n": 1}},
        {"reply_to": "echo", "status": "ok", "payload": {"text": "žluťoučký"}},
        {"reply_to": "ping", "status": "ok", "payload": {}},
    ]
    assert "joined room:lobby" in said


def test_messages_come_out_as_one_line_of_json_each(conformance: Server) -> None:
    process = subprocess.Popen(
        [*PROGRAM, conformance.socket_url, "room:lines", "--count", "2"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write('push {"n": 1}\npush {"n": 2}\n')
    process.stdin.flush()
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(2)]
    # The input is open still. The count ends it.
    assert process.wait(PATIENCE) == 0
    process.stdin.close()
    process.stdout.close()
    assert lines == [{"event": "pushed", "payload": {"n": number}} for number in (1, 2)]


def test_a_push_that_fails_gives_the_exit_status_3(conformance: Server) -> None:
    code, lines, _ = connect(conformance, typed='fail {"why": "asked"}\n')
    assert code == 3
    assert lines == [{"reply_to": "fail", "status": "error", "payload": {"why": "asked"}}]
    code, lines, said = connect(conformance, "--timeout", "0.5", typed="new_msg\n")
    assert (code, "no answer to 'new_msg'" in said) == (3, True)
    code, _, said = connect(conformance, typed="echo {oops\n")
    assert (code, "echo: the payload is not JSON" in said) == (3, True)


def test_a_refusal_gives_the_exit_status_1_and_one_sentence(conformance: Server) -> None:
    code, _, said = connect(conformance, topic="room:deny")
    assert (code, said.splitlines()) == (
        1,
        [
            "connected over websocket",
            'the server refused the join of room:deny: {"reason": "unauthorized"}',
        ],
    )
    code, _, said = connect(conformance, "--param", "token=deny")
    assert code == 1
    assert said.splitlines()[-1].endswith(
        "the server refused the WebSocket with the status 403; "
        "check that the server has a socket at the URL's path '/socket', "
        "then the params, the auth_token and the origin"
    )
    assert "Traceback" not in said


def test_a_channel_that_the_server_closes_gives_the_exit_status_1(conformance: Server) -> None:
    code, _, said = connect(conformance, "--stay", typed="stop\n")
    assert (code, said.splitlines()[-1]) == (
        1,
        "the channel room:lobby is closed: the server closed it",
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["ws://h/s", "t", "--join", "{"], "--join is not JSON"),
        (["ws://h/s", "t", "--param", "x"], "write NAME=VALUE"),
        (["ws://h/s", "t", "--header", "x"], "write NAME:VALUE"),
        (["ws://h/s", "t", "--auth-token-env", "NO_SUCH_NAME"], "NO_SUCH_NAME is not set"),
        (["ws://h/s"], "TOPIC"),
        (["here", "t"], "url='here'; write an absolute URL"),
        (["ws://h/s", ""], "TOPIC is empty"),
        (["ws://h/s", "t", "--header", "a b: c"], "headers="),
    ],
)
def test_wrong_input_gives_one_sentence(
    arguments: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["ashtree", "connect", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert problem in said
    assert "Traceback" not in said


def test_a_pipe_that_nobody_reads_any_more_ends_it_with_one_sentence(conformance: Server) -> None:
    process = subprocess.Popen(
        [*PROGRAM, conformance.socket_url, "room:pipe", "--stay"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(b'push {"n": 1}\n', PATIENCE)
    assert process.returncode == 1
    assert said.decode().splitlines()[-1].startswith("cannot write to standard output")
    assert "Traceback" not in said.decode()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving("examples.conformance", tmp_path) as server:
        yield server


class Terminal:
    """The command in a terminal."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = Program(*COMMAND, *arguments, stdin=theirs, stdout=theirs)
        os.close(theirs)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while words not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, f"no {words!r} in {self.text}"
            if select.select([self._ours], [], [], left)[0]:
                self.text += os.read(self._ours, 65536).decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        os.close(self._ours)


def test_a_terminal_shows_messages_replies_and_reconnects(server: Server) -> None:
    terminal = Terminal(server.socket_url, "room:lobby")
    try:
        terminal.wait_for("joined room:lobby")
        terminal.type('new_msg {"body": "hello"}\n')
        terminal.wait_for('new_msg\x1b[0m {"body": "hello"}')
        terminal.type('echo {"n": 1}\n')
        terminal.wait_for('ok\x1b[0m echo {"n": 1}')
        # The server echoes an event and a payload that would control the terminal.
        terminal.type('new_msg {"body": "\\u009b2J\\u202e"}\n')
        terminal.wait_for(r'{"body": "\x9b2J\u202e"}')
        server.kill()
        terminal.wait_for("connection lost")
        terminal.wait_for("connecting again in")
        server.start()
        terminal.wait_for("joined room:lobby again after")
        terminal.type("\x04")
        assert terminal.process.wait(PATIENCE) == 0
    finally:
        terminal.close()


def test_ctrl_c_ends_it_in_good_order(server: Server) -> None:
    terminal = Terminal(server.socket_url, "room:lobby", "--stay")
    try:
        terminal.wait_for("joined room:lobby")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(PATIENCE) == 0
        assert "Traceback" not in terminal.text
    finally:
        terminal.close()
