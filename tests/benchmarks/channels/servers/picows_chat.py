"""A chat on picows and uvloop: `python picows_chat.py PORT`.

picows is written in Cython. It only calls one callback per frame, so it shows the upper limit for a server in Python.
A crash of the callback ends the connection.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from typing import Any

import orjson  # type: ignore[import-not-found,unused-ignore] # in the environment of the benchmark
import uvloop  # type: ignore[import-not-found] # in the environment of the benchmark
from picows import (  # type: ignore[import-not-found] # likewise
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

TEXT = WSMsgType.TEXT
rooms: defaultdict[str, dict[Chat, WSTransport]] = defaultdict(dict)


class Chat(WSListener):  # type: ignore[misc]
    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.joined: set[str] = set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not TEXT:
            if frame.msg_type is WSMsgType.CLOSE:
                transport.send_close(WSCloseCode.OK)
                transport.disconnect()
            return
        join_ref, ref, topic, event, payload = orjson.loads(frame.get_payload_as_memoryview())
        if event == "phx_join":
            rooms[topic][self] = transport
            self.joined.add(topic)
            payload = {}
        elif event == "new_msg":
            data = orjson.dumps((None, None, topic, event, payload))
            for member in rooms[topic].values():
                member.send(TEXT, data)
            return
        elif event == "boom":
            raise RuntimeError("boom")
        reply: dict[str, Any] = {"status": "ok", "response": payload}
        transport.send(TEXT, orjson.dumps((join_ref, ref, topic, "phx_reply", reply)))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        for topic in self.joined:
            rooms[topic].pop(self, None)


def accept(request: WSUpgradeRequest) -> Chat:
    return Chat()


async def main(port: int) -> None:
    server = await ws_create_server(accept, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    uvloop.run(main(int(sys.argv[1])))
