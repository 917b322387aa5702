"""The URL of a Redis or Valkey server.

    redis://user:password@host:6379/0?prefix=shop       TCP
    rediss://user:password@host:6379/0                  TLS
    unix://user:password@/run/valkey.sock?db=0          a Unix socket

*pure*. `valkey` and `valkeys` mean the same as `redis` and `rediss`. Write reserved characters of a password in percent
form: `%40` for `@`. No error and no `repr` shows a password.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import field, frozen

from actors.errors import InvalidArgument

__all__ = ["DEFAULT_PREFIX", "RedisUrl"]

DEFAULT_PREFIX = "ashtree"

_TCP = ("redis", "valkey")
_TLS = ("rediss", "valkeys")
_PORT = 6379
# A prefix has no spaces, and none of the characters that are special in patterns of PSUBSCRIBE and ACL rules.
_PREFIX = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_ADVICE = "write redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path"
_ESCAPES = "in a password, write %2F for /, %3F for ?, %23 for # and %40 for @"


@frozen(kw_only=True)
class RedisUrl:
    """The address of a server, the credentials, and the prefix of all channels and keys.

        >>> RedisUrl.parse("redis://:secret@db.example/2?prefix=shop")
        RedisUrl('redis://***@db.example:6379/2?prefix=shop')

    Attributes:
        host: name or address of the server; empty for a Unix socket.
        port: its port; 0 for a Unix socket.
        path: the path of the Unix socket, or None.
        tls: True for TLS.
        username: None for the server's default user.
        password: None for a server without passwords.
        database: the number of the database for keys. Pub/Sub channels belong to no database.
        prefix: the first part of the name of every channel and key.
    """

    host: str = ""
    port: int = 0
    path: str | None = None
    tls: bool = False
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    database: int = 0
    prefix: str = DEFAULT_PREFIX

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Return the parts of a URL.

        Args:
            text: one of the forms above. The default port is 6379, the default database 0, and the default prefix
                `ashtree`. `prefix` takes letters, digits and `_.:/-`.

        Raises:
            InvalidArgument: the URL has another form, or an unknown option.

        The forms follow the IANA registration of the scheme `redis`, as other clients do. `unix` works as in redis-py.
        """
        return _parse(text)

    def __repr__(self) -> str:
        return f"RedisUrl({str(self)!r})"

    def __str__(self) -> str:
        """Return the URL without user and password."""
        secret = "" if self.username is None and self.password is None else "***@"
        prefix = "" if self.prefix == DEFAULT_PREFIX else f"prefix={self.prefix}"
        if self.path is not None:
            query = "&".join(filter(None, [f"db={self.database}" if self.database else "", prefix]))
            return f"unix://{secret}{self.path}{'?' if query else ''}{query}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "rediss" if self.tls else "redis"
        address = f"{scheme}://{secret}{host}:{self.port}/{self.database}"
        return f"{address}?{prefix}" if prefix else address


def _parse(text: object) -> RedisUrl:
    if not isinstance(text, str):
        raise _invalid(f"it is {type(text).__name__}, not text; {_ADVICE}")
    if _CONTROL.search(text):
        raise _invalid("it contains a space or a control character; write %20 for a space")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # The text of this error repeats parts of the URL, perhaps of the password.
        raise _invalid(f"its host or its port is malformed; {_ESCAPES}") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    is_unix = parts.scheme == "unix"
    database = options.pop("db", "" if is_unix else parts.path.strip("/"))
    prefix = options.pop("prefix", DEFAULT_PREFIX)
    if options or parts.fragment:
        raise _invalid(
            "it has options other than db and prefix; write user and password before the host, as user:password@host; "
            f"{_ESCAPES}"
        )
    if not _PREFIX.fullmatch(prefix):
        raise _invalid("its prefix is invalid; write 1 to 200 letters, digits and _.:/-")
    if database and not _NUMBER.fullmatch(database):
        raise _invalid("its database is not a number; write it as in redis://host:6379/0")
    common: dict[str, Any] = {
        "username": unquote(parts.username or "") or None,
        "password": unquote(parts.password or "") or None,
        "database": int(database or 0),
        "prefix": prefix,
    }
    if is_unix:
        if parts.hostname is not None or not parts.path.startswith("/"):
            raise _invalid("a Unix socket has no host; write unix:///path/to/socket")
        return RedisUrl(path=unquote(parts.path), **common)
    if parts.scheme not in (*_TCP, *_TLS) or not parts.hostname or port == 0:
        raise _invalid(f"its scheme, its host or its port is unknown; {_ADVICE}")
    return RedisUrl(host=parts.hostname, port=port or _PORT, tls=parts.scheme in _TLS, **common)


def _invalid(problem: str) -> InvalidArgument:
    # The URL is not shown: after a mistake in it, any part may belong to the password.
    return InvalidArgument(None, "***", f"the URL of a Redis server cannot be used: {problem}")
