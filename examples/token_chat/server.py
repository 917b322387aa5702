"""The whole server of the chat with tokens: the log-in, the page with its token, the socket and the room.

A user logs in with only a name. A real application would also check a password, and could keep the other steps.
"""

from __future__ import annotations

import os
import secrets
from contextlib import aclosing
from html import escape
from pathlib import Path
from string import Template
from typing import Annotated, Any
from urllib.parse import parse_qs

from attrs import frozen
from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from actors import current_pid, send
from channels import (
    Channel,
    ConnectInfo,
    Endpoint,
    JoinRefused,
    Mount,
    Socket,
    TokenError,
    handle_in,
    handle_out,
    sign,
    verify,
)
from examples.phoenix_js import shared_folders

# Without this environment variable, each start has a new secret, so the users must log in again.
SECRET = os.environ.get("SECRET_KEY_BASE") or secrets.token_urlsafe(48)
TWO_WEEKS = 14 * 24 * 60 * 60
MAX_FORM = 1000  # bytes

_FOLDER = Path(__file__).parent
_LOGIN_PAGE = (_FOLDER / "login.html").read_text(encoding="utf-8")
_CHAT_PAGE = (_FOLDER / "chat.html").read_text(encoding="utf-8")

# The room


@frozen
class Message:
    """The payload of `new_msg`: the text of a message."""

    body: Annotated[str, Meta(min_length=1, max_length=500)]


@frozen
class Person:
    """The payload of `ignore`: the name of a user."""

    user: Annotated[str, Meta(min_length=1, max_length=24)]


class RoomChannel(Channel):
    """One tab in the lobby. The name of its user comes from the token, never from the page."""

    max_ignored = 100

    async def join(self, topic: str, payload: Any) -> None:
        if topic != "room:lobby":
            raise JoinRefused({"reason": "unauthorized"})
        self.ignored: set[str] = set()
        send(current_pid(), "after join")

    async def handle_info(self, message: Any) -> None:
        self.broadcast_from("user_joined", {"user": self.assigns["user"]})

    @handle_in("new_msg")
    async def new_msg(self, payload: Message) -> None:
        self.broadcast("new_msg", {"user": self.assigns["user"], "body": payload.body})

    @handle_in("ignore")
    async def ignore(self, payload: Person) -> None:
        if len(self.ignored) < self.max_ignored:
            self.ignored.add(payload.user)

    @handle_out("user_joined")
    async def user_joined(self, payload: Any) -> None:
        # This runs once for each recipient, so it must be cheap.
        if payload["user"] not in self.ignored:
            self.push("user_joined", payload)


class UserSocket(Socket):
    """The socket of a tab. It accepts only a token that the server has signed."""

    channels = {"room:*": RoomChannel}

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        token = connect_info.auth_token
        self.assigns["user"] = verify(SECRET, "user socket", token, max_age=TWO_WEEKS)  # step 3

    def id(self) -> str:
        return f"user:{self.assigns['user']}"


# The pages


def _user_of(request: Request) -> str | None:
    """Return the name in the log-in cookie, or None if there is no valid cookie."""
    try:
        user = verify(SECRET, "log-in", request.cookies.get("login"), max_age=TWO_WEEKS)
    except TokenError:
        return None
    return str(user)


def _login_page(problem: str = "", status: int = 200) -> HTMLResponse:
    return HTMLResponse(Template(_LOGIN_PAGE).substitute(problem=escape(problem)), status)


async def index(request: Request) -> Response:
    """Return the chat page with a token for the user. Without a log-in, return the log-in page."""
    user = _user_of(request)
    if user is None:
        return _login_page()
    token = sign(SECRET, "user socket", user)  # step 1
    page = Template(_CHAT_PAGE).substitute(user=escape(user), token=escape(token))  # step 2
    return HTMLResponse(page, headers={"cache-control": "no-store"})


async def _form_of(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form. A form that is too long has none, and its rest is not read."""
    body = b""
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_FORM:
                return {}
    return parse_qs(body.decode(errors="replace"))


async def log_in(request: Request) -> Response:
    """Set a signed cookie with the name of the user."""
    form = await _form_of(request)
    user = form.get("user", [""])[0].strip()
    if not 1 <= len(user) <= 24:
        return _login_page("A name has 1 to 24 characters.", 400)
    response = RedirectResponse("/", 303)
    cookie = sign(SECRET, "log-in", user)
    response.set_cookie("login", cookie, max_age=TWO_WEEKS, httponly=True, samesite="lax")
    return response


async def log_out(request: Request) -> Response:
    """Delete the log-in cookie, and close the connections of all tabs of the user on all nodes."""
    user = _user_of(request)
    if user is not None:
        endpoint.broadcast(f"user:{user}", "disconnect", {})
    response = RedirectResponse("/", 303)
    response.delete_cookie("login")
    return response


endpoint = Endpoint(
    sockets={"/socket": Mount(UserSocket, auth_token=True)},
    static=shared_folders(_FOLDER, page="/page"),
    http=Starlette(
        routes=[
            Route("/", index),
            Route("/login", log_in, methods=["POST"]),
            Route("/logout", log_out, methods=["POST"]),
        ]
    ),
)
