"""Put the index of the site's search in order, so that a reader finds the guide first.

The search of Zensical has no weights for pages. It prefers parts with the word in their title, then an early word to a
late one, and otherwise keeps the order of the index. So this module does four things:

- It leaves out the changelog, which has every word.
- It puts guides before reference pages, and those before their members.
- It gives a member its class or package: `Channel.broadcast` instead of `broadcast`, so a heading "Broadcast" comes
  first.
- It begins the text of a page with the words that readers search for, if the page itself calls the thing otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict


class Part(TypedDict):
    """A part of a page: the text below a heading, as Zensical writes it."""

    location: str
    level: int
    title: str
    text: str
    path: list[str]
    tags: list[str]


SYNONYMS = {
    "howto/authenticate.html": "authentication authorization login log in sign in user session cookie token JWT",
    "howto/deploy.html": "deploy deployment nginx caddy proxy docker kubernetes systemd TLS certificate HTTPS 1012",
    "howto/lose-no-message.html": "reconnect missed messages history replay offline",
    "howto/handle-a-crash.html": "crash exception error phx_error restart",
    "howto/test-a-channel.html": "test testing pytest playwright",
    "howto/start-a-project.html": "install installation pip extras upgrade",
    "howto/serve-your-endpoint.html": "workers cores reload CORS origin long polling starlette django asgi",
    "howto/serve-supabase-clients.html": "supabase realtime-js JWT postgres_changes",
    "howto/publish-from-outside.html": "publish HTTP webhook cron",
    "howto/use-blocking-and-asyncio-libraries.html": "database asyncio thread postgres sqlalchemy django",
    "howto/scale-out-with-redis.html": "cluster nodes machines valkey",
    "howto/monitor.html": "health metrics prometheus logging tracing",
    "reference/channel.html": "broadcast push reply handler rooms groups",
    "reference/client.html": "client reconnect",
    "reference/presence.html": "presence online users who is here",
    "topics/limits.html": "rate limit throttle close code 1008 1011 1013 too many requests slow client",
    "topics/wire-protocol.html": "protocol frame heartbeat",
}
"""Words for pages, by their addresses in the site. The search finds the page under each of them."""

_ORDER = ("index", "howto", "tutorial", "topics", "study", "coming-from", "reference")
_LEFT_OUT = ("project/changelog.html", "source/")


def in_order(parts: Iterable[Part]) -> list[Part]:
    """Return the parts that the search covers, in the order in which it prefers them."""
    kept = [_improved(part) for part in parts if not part["location"].startswith(_LEFT_OUT)]
    return sorted(kept, key=_rank)


def _improved(part: Part) -> Part:
    anchor = part["location"].partition("#")[2]
    if _is_member(anchor):
        package, owner, name = anchor.split(".")[0], *anchor.split(".")[-2:]
        return {**part, "title": f"{owner if owner[0].isupper() else package}.{name}"}
    if words := SYNONYMS.get(part["location"]):
        return {**part, "text": f"<p>Also: {words}.</p> {part['text']}"}
    return part


def _is_member(anchor: str) -> bool:
    """Return True for the heading of a member, which has the full name of the member as its anchor."""
    return "." in anchor


def _rank(part: Part) -> tuple[bool, int, int]:
    """Return the place of a part: members last, then by the kind of page, then pages before their sections."""
    folder = part["location"].partition("/")[0].partition(".")[0]
    kind = _ORDER.index(folder) if folder in _ORDER else len(_ORDER)
    return _is_member(part["location"].partition("#")[2]), kind, part["level"]
