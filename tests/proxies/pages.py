"""The parts that the tests add to a generated project: a channel and a page that tell what the server sees."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from channels import Channel, ConnectInfo, Socket


class SeenChannel(Channel):
    """Tells the client which address and scheme the server sees."""

    async def join(self, topic: str, payload: Any) -> Any:
        return self.assigns["seen"]


class SeenSocket(Socket):
    """Notes the address and the scheme of each client."""

    channels = {"seen": SeenChannel}

    async def connect(self, params: Any, connect_info: ConnectInfo) -> None:
        peer = connect_info.peer_data
        self.assigns["seen"] = {
            "client": peer.address if peer else None,
            "scheme": connect_info.scheme,
        }


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with what the server sees of it, and with the checksum of its body."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    size, digest, more = 0, hashlib.sha256(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        digest.update(message["body"])
        more = message["more_body"]
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    seen = {
        "client": scope["client"][0],
        "scheme": scope["scheme"],
        "host": headers["host"],
        "forwarded": headers.get("x-forwarded-for"),
        "size": size,
        "digest": digest.hexdigest(),
    }
    body = json.dumps(seen).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})
