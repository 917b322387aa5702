"""Messages to systemd: their text, the two kinds of addresses, and a service manager that does not answer."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from channels import service_manager


@pytest.fixture(params=["file", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        if request.param == "file":
            sock.bind(name)
            monkeypatch.setenv("NOTIFY_SOCKET", name)
        else:
            sock.bind(f"\0{name}")
            monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        sock.settimeout(5)
        yield sock


def test_each_state_is_one_datagram(manager: socket.socket) -> None:
    service_manager.ready()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    service_manager.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    service_manager.ready("the replacement\nhas ended")
    service_manager.stopping()
    messages = [manager.recv(1000).decode() for _ in range(4)]
    assert messages[0] == "READY=1\nSTATUS="
    head, _, micros = messages[1].rpartition("=")
    assert head == "RELOADING=1\nMONOTONIC_USEC"
    assert before // 1000 <= int(micros) <= after // 1000
    assert messages[2:] == ["READY=1\nSTATUS=the replacement has ended", "STOPPING=1"]


@pytest.mark.parametrize("address", [None, "", "relative", "vsock:2:1"])
def test_without_a_socket_of_a_service_manager_nothing_is_sent(
    address: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    service_manager.ready()
    assert caplog.records == []


def test_a_service_manager_that_has_gone_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    service_manager.stopping()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "cannot tell the service manager STOPPING=1: No such file or directory"
    )
