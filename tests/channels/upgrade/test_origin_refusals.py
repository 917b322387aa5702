"""Pages from elsewhere are refused before the application is asked."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from channels import Endpoint, Mount, Socket
from channels.telemetry import SOCKET_ORIGIN_REFUSED
from tests.channels.conftest import Serve
from tests.channels.support import UPGRADE, Server, head, settle


class Asked(Socket):
    asked = 0

    async def connect(self, params: Any, connect_info: Any) -> None:
        Asked.asked += 1


async def status(server: Server, origin: str) -> int:
    client = await server.accept()
    client.write(head(headers=UPGRADE + f"origin: {origin}\r\n"))
    await settle()
    answer = client.answer()
    assert answer is not None
    return answer.status


async def test_a_page_of_another_origin_gets_403_without_a_call_of_connect(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    Asked.asked = 0
    with caplog.at_level(logging.WARNING, "channels"):
        server = await serve(Endpoint(sockets={"/socket": Asked}))
        heard = server.listen(SOCKET_ORIGIN_REFUSED)
        assert await status(server, "https://evil.example") == 403
    assert Asked.asked == 0
    ((_, about),) = heard
    assert (about["socket"], about["origin"]) == (Asked, "https://evil.example")
    assert "'https://evil.example' that tried to connect to Asked" in caplog.text
    assert "check_origin" in caplog.text
    assert server.endpoint.statistics()["counts"][SOCKET_ORIGIN_REFUSED] == 1


async def test_a_page_of_the_same_host_connects(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Asked}))
    assert await status(server, "http://test:8080") == 101


async def test_a_mount_can_allow_other_origins(serve: Serve) -> None:
    mount = Mount(Asked, check_origin=["//*.example.org"])
    server = await serve(Endpoint(sockets={"/socket": mount}))
    assert await status(server, "https://chat.example.org") == 101
    assert await status(server, "http://test") == 403


async def test_an_invalid_origin_raises_before_the_endpoint_starts() -> None:
    endpoint = Endpoint(sockets={"/socket": Mount(Asked, check_origin=["example.org"])})
    with pytest.raises(ValueError, match=r"the origin 'example\.org' in check_origin has no host"):
        endpoint.check()
