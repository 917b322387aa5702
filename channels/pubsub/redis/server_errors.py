"""Errors that a Redis or Valkey server answers with, and what to do about them.

*pure*. A server writes an error as a code in capital letters and a text: `-WRONGPASS invalid username-password pair`.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

__all__ = ["ACL_RULE", "ENTITY_ACL_RULE", "HISTORY_ACL_RULE", "ServerError"]

ACL_RULE: Final = (
    "resetchannels &PREFIX:* -@all +hello +auth +ping +select +client|setname +subscribe +publish"
)
"""The permissions that an adapter needs. `PREFIX` stands for the prefix of the URL."""

HISTORY_ACL_RULE: Final = (
    "resetchannels resetkeys &PREFIX:* ~PREFIX:* -@all +hello +auth +ping +select +client|setname +subscribe +publish "
    "+info +config|get +eval +evalsha +del +exists +pexpire +hmget +hget +hset +hdel +hlen +zadd +zcard +zrange +zrem "
    "+zscore +set +xadd +xrange +xtrim"
)
"""The permissions that a `RedisStorage` needs. They also suffice for an adapter."""

ENTITY_ACL_RULE: Final = (
    "resetchannels resetkeys &PREFIX:* ~PREFIX:entities ~PREFIX:entities:* -@all +hello +auth +ping +select "
    "+client|setname +subscribe +publish +info +eval +evalsha +time +get +set +del +pexpire +hmget +hget +hset +hdel "
    "+hscan +zadd +zrem +zscore +zrangebyscore"
)
"""The permissions that a `RedisArbiter` needs. They also suffice for an adapter."""

_CODE = re.compile(r"([A-Z][A-Z0-9]*)(?: |$)")
# If a server does not know HELLO, its error repeats the arguments, including the password.
_ARGUMENTS = re.compile(r",? with args beginning with.*", re.DOTALL | re.IGNORECASE)
_MAX_TEXT = 300

_OLD = "the server is too old; Redis 6 or Valkey 7 or later is needed"

_ADVICE: Final = {
    "NOAUTH": "the server asks for a password; write it into the URL, as redis://:password@host",
    "WRONGPASS": "user or password are wrong, or the user is disabled; correct the URL or the ACL of the server",
    "NOPERM": f"the user lacks a permission; this ACL rule suffices for a RedisAdapter: {ACL_RULE}; and this one for a "
    f"RedisStorage: {HISTORY_ACL_RULE}; and this one for entities: {ENTITY_ACL_RULE}",
    "NOPROTO": _OLD,
    "OOM": "the server has reached its maxmemory; raise it, or set an eviction policy",
    "MISCONF": "the server cannot save to its disk; free space there, or correct its dir and permissions",
    "LOADING": "the server is loading its data; nothing to do, the connection is tried again",
    "READONLY": "the server is a replica; write the address of the primary into the URL",
    "MASTERDOWN": "the server is a replica without its primary; write the address of the primary into the URL",
    "DENIED": "the server is in protected mode; set a password, or bind it to a trusted network",
    "BUSY": "a script blocks the server; end it with SCRIPT KILL",
}


@frozen
class ServerError:
    """The answer of a server that refuses a command.

        >>> ServerError.parse("WRONGPASS invalid username-password pair")
        ServerError(code='WRONGPASS', text='invalid username-password pair')

    Attributes:
        code: the first word, such as `WRONGPASS`; `ERR` for errors without a code of their own.
        text: the rest, at most 300 characters, without arguments of the command.
    """

    code: str
    text: str

    @classmethod
    def parse(cls, line: str) -> ServerError:
        """Return the parts of an error line, without its minus sign."""
        line = _ARGUMENTS.sub("", line)
        found = _CODE.match(line)
        if found is None:
            return cls("ERR", line[:_MAX_TEXT])
        return cls(found[1][:40], line[found.end() :][:_MAX_TEXT])

    @property
    def advice(self) -> str:
        """A sentence that says what to do, or an empty text."""
        if self.code == "ERR":
            text = self.text.lower()
            if "max number of clients" in text:
                return "the server has reached its maxclients; raise it, or close connections"
            if "unknown command" in text and "hello" in text:
                return _OLD
            if "db index" in text:
                return "the database of the URL does not exist; write a lower number"
        return _ADVICE.get(self.code, "")

    def __str__(self) -> str:
        line = f"{self.code} {self.text}".strip()
        return f"{line} ({self.advice})" if self.advice else line
