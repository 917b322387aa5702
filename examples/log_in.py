"""A log-in for the examples: a page that asks for a name, and a page with a token for the socket.

A user logs in with only a name. A real application would also check a password, and could keep the other steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from channels import Endpoint, TokenError, sign, verify

TWO_WEEKS = 14 * 24 * 60 * 60
MAX_FORM = 1000  # bytes


def log_in_pages(
    folder: Path, page: str, secret: str, endpoint: Callable[[], Endpoint]
) -> Starlette:
    """Return the application with the pages of an example.

    Args:
        folder: the folder of `login.html`, with `$problem`, and of the page.
        page: the file of the page, with `$user` and `$token`.
        secret: the secret that signs the cookie and the token.
        endpoint: returns the endpoint, which is made after these pages.
    """
    login_page, main_page = (
        Template((folder / name).read_text(encoding="utf-8")) for name in ("login.html", page)
    )

    def ask(problem: str = "", status: int = 200) -> HTMLResponse:
        return HTMLResponse(login_page.substitute(problem=escape(problem)), status)

    def user_of(request: Request) -> str | None:
        """Return the name in the log-in cookie, or None if there is no valid cookie."""
        try:
            return str(verify(secret, "log-in", request.cookies.get("login"), max_age=TWO_WEEKS))
        except TokenError:
            return None

    async def index(request: Request) -> Response:
        """Return the page with a token for the user. Without a log-in, return the log-in page."""
        user = user_of(request)
        if user is None:
            return ask()
        token = sign(secret, "user socket", user)  # step 1
        text = main_page.substitute(user=escape(user), token=escape(token))  # step 2
        return HTMLResponse(text, headers={"cache-control": "no-store"})

    async def enter(request: Request) -> Response:
        """Set a signed cookie with the name of the user."""
        form = await _form_of(request)
        user = form.get("user", [""])[0].strip()
        if not 1 <= len(user) <= 24:
            return ask("A name has 1 to 24 characters.", 400)
        response = RedirectResponse("/", 303)
        cookie = sign(secret, "log-in", user)
        response.set_cookie("login", cookie, max_age=TWO_WEEKS, httponly=True, samesite="lax")
        return response

    async def leave(request: Request) -> Response:
        """Delete the log-in cookie, and close the connections of all tabs of the user on all nodes."""
        user = user_of(request)
        if user is not None:
            endpoint().broadcast(f"user:{user}", "disconnect", {})
        response = RedirectResponse("/", 303)
        response.delete_cookie("login")
        return response

    return Starlette(
        routes=[
            Route("/", index),
            Route("/login", enter, methods=["POST"]),
            Route("/logout", leave, methods=["POST"]),
        ]
    )


async def _form_of(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form. A form that is too long has none, and its rest is not read."""
    body = b""
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_FORM:
                return {}
    return parse_qs(body.decode(errors="replace"))
