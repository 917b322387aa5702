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
from actors.text import brief

__all__ = ["DEFAULT_PREFIX", "RedisUrl"]

DEFAULT_PREFIX = "ashtree"

_TCP = ("redis", "valkey")
_TLS = ("rediss", "valkeys")
_OPTIONS = ("db", "prefix")
_PORT = 6379
# A prefix has no spaces, and none of the characters that are special in patterns of PSUBSCRIBE and ACL rules.
_PREFIX = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_ADVICE = "write redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path"


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


def _parse(text: Any) -> RedisUrl:
    if not isinstance(text, str):
        raise _invalid(f"it is {type(text).__name__}; {_ADVICE}", url="of the server")
    shown = _shown(text)
    if _CONTROL.search(text):
        raise _invalid(
            "it contains a space or a control character; write %20 for a space", url=shown
        )
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in (*_TCP, *_TLS, "unix"):
        raise _invalid(f"it does not begin with a known scheme; {_ADVICE}", url=shown)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # The text of this error repeats parts of the URL, perhaps of the password.
        raise _invalid(
            "its port is not a number up to 65535, or its host is invalid; in a password, write %2F for /, %3F for ?, "
            "%23 for # and %40 for @",
            url=shown,
        ) from None
    if parts.fragment:
        raise _invalid("it contains #; in a password, write %23", url=shown)
    options = _options(parts.query, shown)
    common: dict[str, Any] = {
        "username": _decoded(parts.username),
        "password": _decoded(parts.password),
        "prefix": options.get("prefix", DEFAULT_PREFIX),
    }
    if scheme == "unix":
        if parts.hostname is not None or not parts.path.startswith("/"):
            raise _invalid(
                "a Unix socket has an absolute path and no host; write unix:///path/to/socket",
                url=shown,
            )
        database = _database("", options.get("db"), shown)
        return RedisUrl(path=unquote(parts.path), database=database, **common)
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise _invalid(f"it has no valid host; {_ADVICE}", url=shown)
    if port == 0:
        raise _invalid("its port is 0; write a number from 1 to 65535", url=shown)
    return RedisUrl(
        host=parts.hostname,
        port=port or _PORT,
        tls=scheme in _TLS,
        database=_database(parts.path.strip("/"), options.get("db"), shown),
        **common,
    )


def _options(query: str, shown: str) -> dict[str, str]:
    if "@" in query:
        # This is probably the rest of a password with an unescaped question mark, so do not show it.
        raise _invalid("it has @ after ?; in a password, write %3F for ? and %40 for @", url=shown)
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            # Do not show the value: some clients take the password as an option.
            advice = (
                "write user and password before the host, as user:password@host"
                if name in ("username", "password")
                else f"write one of {', '.join(_OPTIONS)}"
            )
            raise _invalid(f"it has the unknown option {brief(name)}; {advice}", url=shown)
        if name in options:
            raise _invalid(f"it has the option {name} twice; write it once", url=shown)
        options[name] = value
    prefix = options.get("prefix")
    if prefix is not None and not _PREFIX.fullmatch(prefix):
        raise _invalid(
            f"its prefix is {brief(prefix)}; write 1 to 200 letters, digits and _.:/-", url=shown
        )
    return options


def _database(path: str, option: str | None, shown: str) -> int:
    texts = {text for text in (path, option) if text}
    if not texts:
        return 0
    if len(texts) > 1:
        raise _invalid(
            "it names one database behind the last slash and another one in db=; delete one of the two",
            url=shown,
        )
    (text,) = texts
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        # Do not show the text: it is a part of the password if the password contains an unescaped slash.
        raise _invalid(
            "its database is not a whole number, 0 or more; write it as in redis://host:6379/0",
            url=shown,
        )
    return int(text)


def _decoded(text: str | None) -> str | None:
    """Return a decoded user name or password, or None if it is empty."""
    return unquote(text) if text else None


def _shown(text: str) -> str:
    """Return a URL for an error message, without anything that may be a part of a password."""
    scheme, separator, rest = text.partition("://")
    if not separator or not re.fullmatch(r"[a-z+]{1,12}", scheme):
        return "***"
    _, at, after = rest.rpartition("@")
    # A password may contain any of these characters by mistake.
    address = re.split(r"[/?#]", after, maxsplit=1)[0]
    if at:
        safe = _HOST.fullmatch(address)
        return f"{scheme}://***@{address[:100]}" if safe else f"{scheme}://***"
    name, colon, port = address.partition(":")
    known = _HOST.fullmatch(name) and (not colon or port.isdigit())
    return f"{scheme}://{address[:100]}" if known else f"{scheme}://***"


def _invalid(problem: str, *, url: str) -> InvalidArgument:
    """Return the error of an invalid URL. In `url`, `***` stands for user and password."""
    return InvalidArgument(None, url, f"the URL {url} cannot be used: {problem}")
