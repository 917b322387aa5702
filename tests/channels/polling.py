"""A polling client for tests, without a network. Each request has its own connection."""

from __future__ import annotations

import json
from typing import Any

from attrs import field, frozen

from tests.channels.support import Answer, Client, Server, settle

JSON = "application/json"
NDJSON = "application/x-ndjson"


@frozen
class Asked:
    """A request, perhaps without an answer yet."""

    client: Client

    def answer(self) -> Answer | None:
        """The answer, if there is one."""
        return self.client.answer()

    def said(self) -> dict[str, Any] | None:
        """Return the content of a JSON answer; None if there is none."""
        answer = self.answer()
        if answer is None:
            return None
        assert answer.status == 200, answer
        said = json.loads(answer.body)
        assert isinstance(said, dict)
        return said

    def go(self) -> None:
        """Leave without waiting for the answer."""
        self.client.end()


@frozen
class Poller:
    """A client of one server. `token` is the token of its session, if there is one."""

    server: Server
    path: str = "/socket/longpoll"
    query: str = "vsn=2.0.0"
    headers: tuple[tuple[str, str], ...] = ()
    tokens: list[str] = field(factory=list)

    @property
    def token(self) -> str:
        return self.tokens[-1]

    def request(
        self,
        method: str,
        body: bytes | None = None,
        *headers: tuple[str, str],
        token: str | None = None,
        query: str = "",
    ) -> bytes:
        """The bytes of one request; the token of the session is sent in the header, if there is one."""
        token = token if token is not None else (self.token if self.tokens else "")
        lines = [f"{method} {self.path}?{self.query}{query} HTTP/1.1", "host: test"]
        if token:
            lines.append(f"x-phoenix-longpoll-token: {token}")
        lines += [f"{name}: {value}" for name, value in (*self.headers, *headers)]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        return "\r\n".join((*lines, "", "")).encode() + (body or b"")

    async def begin(
        self, method: str, body: bytes | None = None, *headers: Any, **how: Any
    ) -> Asked:
        """Send a request, and let the server react without time passing."""
        client = await self.server.accept()
        client.write(self.request(method, body, *headers, **how))
        await settle()
        return Asked(client)

    async def ask(
        self, method: str, body: bytes | None = None, *headers: Any, **how: Any
    ) -> Answer:
        """Send a request that is answered at once, and read the answer."""
        answer = (await self.begin(method, body, *headers, **how)).answer()
        assert answer is not None, "nothing came at once"
        return answer

    async def get(self, **how: Any) -> dict[str, Any]:
        """Poll, where the answer comes at once."""
        said = (await self.begin("GET", **how)).said()
        assert said is not None, "nothing came at once"
        return said

    async def open(self) -> Poller:
        """Begin a session."""
        said = await self.get(token="")
        assert (said["status"], said["messages"]) == (410, []), said
        self.tokens.append(said["token"])
        return self

    async def messages(self) -> list[Any]:
        """Poll, and return the waiting messages, each as JSON."""
        said = await self.get()
        assert (said["status"], said["token"]) == (200, self.token), said
        return [json.loads(message) for message in said["messages"]]

    async def post(self, body: bytes, kind: str | None = NDJSON, **how: Any) -> int:
        """Send a body, and return the status in the JSON answer."""
        headers = [("content-type", kind)] if kind is not None else []
        answer = await self.ask("POST", body, *headers, **how)
        assert answer.status == 200, answer
        said = json.loads(answer.body)
        assert set(said) == {"status"}
        return int(said["status"])

    async def send(self, *messages: tuple[Any, ...]) -> int:
        """Send messages as one batch. Each is join_ref, ref, topic, event, and an optional payload."""
        return await self.post(b"\n".join(map(line, messages)))

    async def exchange(self, *messages: tuple[Any, ...]) -> list[Any]:
        """Send messages as one batch, and return the messages that follow."""
        assert await self.send(*messages) == 200
        return await self.messages()

    async def join(self, topic: str = "room:a", ref: str = "1", payload: Any = None) -> None:
        """Join a topic and make sure that it worked."""
        got = await self.exchange((ref, ref, topic, "phx_join", {} if payload is None else payload))
        assert got == [[ref, ref, topic, "phx_reply", {"status": "ok", "response": {}}]]


def line(message: tuple[Any, ...]) -> bytes:
    """One message of V2, as JSON."""
    return json.dumps([*message, {}] if len(message) == 4 else message).encode()


def sessions(server: Server) -> list[Any]:
    """The processes of sessions, in the order of their begin."""
    return list(server.services.admission.polling.values())
