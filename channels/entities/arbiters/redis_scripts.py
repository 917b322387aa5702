"""The scripts of the Redis arbiter, which run on the server.

*pure*. Each script is one atomic step. NAME is the name of the `EntitySupervisor`:

    PREFIX:entities                    hash         the run of the server, the time until which it grants nothing new,
                                                    and the last fence, for all names
    PREFIX:entities:NAME:owners        hash         for each key its fence, 1 if it was transferred, and its session
    PREFIX:entities:NAME:alarms        sorted set   the keys with an alarm, by its time
    PREFIX:entities:NAME:session:NODE  string       the number of the node's session; expires with its lease

A record in `owners` is valid while the session in it lives. So one renewal is enough for all keys of a node. Renewals
also remove records whose session has ended, some at a time.

A fence is the time of the server in microseconds, or one more than the last fence of any key if the clock was set back.
So it grows as long as the server keeps the last fence, and a key without an owner needs no memory. A server that has
lost it grows further with its clock. If that clock was set back too, a storage refuses the fence, and the owner
acquires again with `at_least`. Lua's `..` would round such a number, so the scripts format it with `%.0f`.

A server that has restarted, or that was a replica, may lack the latest records. Then `run` differs from its run_id. A
server without data may have lost them too. Such a server grants nothing for one lease. Meanwhile the owners with a
valid lease write their records again (`restore`), and the greater fence wins. All other leases end in that time. An
owner must not renew its lease before it has restored its records, so it also sends the run in which it did so.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from channels.pubsub.adapter import Node
from channels.pubsub.redis.protocol import Script

__all__ = [
    "ACQUIRE",
    "CLEAR_ALARM",
    "CLOSE",
    "DONE",
    "DUE_ALARMS",
    "ENDED",
    "OPEN",
    "OWNER",
    "REFUSED",
    "RELEASE",
    "RENEW",
    "RESTORE",
    "SET_ALARM",
    "TRANSFER",
    "WAIT",
    "Keys",
    "identity_of",
    "node_of",
]

ENDED: Final = 0
"""The first number of an answer: the session has ended."""

DONE: Final = 1
"""The first number of an answer: the script has done its work. The rest of the answer depends on the script."""

REFUSED: Final = 2
"""The first number of an answer: the session does not own the key, or another session does."""

WAIT: Final = 3
"""The first number of an answer: the server may lack records. The second number has the microseconds to wait."""

_BEGIN: Final = """
-- KEYS: those of `Keys`. ARGV: the run of the server, milliseconds of a lease, the prefix of sessions, this node, the
-- number of its session; then the arguments of the script.
local meta, owners, alarms = KEYS[1], KEYS[2], KEYS[3]
local run, lease, prefix, node, number = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local call = redis.call

local function whole(value) return string.format('%.0f', value) end

local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local known, quiet, last = unpack(call('HMGET', meta, 'run', 'quiet', 'last'))
quiet, last = tonumber(quiet or 0), tonumber(last or 0)
-- The clock may have been set back since the server wrote `quiet`.
if known ~= run or quiet - now > lease * 1000 then
  quiet = now + lease * 1000
  call('HSET', meta, 'run', run, 'quiet', whole(quiet))
end
local wait = quiet - now

local function lives(other, its_number) return call('GET', prefix .. other) == its_number end

-- The fence of a key, 1 if it was transferred, the number of the owner's session, and the owner's node.
local function record_of(key)
  local text = call('HGET', owners, key)
  if not text then return nil end
  local fence, arrived, its_number, other = string.match(text, '^(%d+) (%d) (%d+) (.*)$')
  return tonumber(fence), tonumber(arrived), its_number, other
end

local function record(key, fence, arrived, its_number, other)
  call('HSET', owners, key, whole(fence) .. ' ' .. arrived .. ' ' .. its_number .. ' ' .. other)
end

local function grant(key, at_least, arrived, its_number, other)
  local fence = math.max(now, last + 1, at_least)
  call('HSET', meta, 'last', whole(fence))
  record(key, fence, arrived, its_number, other)
  return {1, fence, arrived}
end

-- nil if this session owns the key with this fence. Otherwise the answer.
local function refusal(key, expected)
  local fence, _, its_number, other = record_of(key)
  local is_mine = other == node and its_number == number and fence == tonumber(expected)
  if is_mine and lives(node, number) then return nil end
  if wait > 0 then return {3, wait} end
  return lives(node, number) and {2} or {0}
end
"""

_OPEN: Final = """
local held = call('GET', prefix .. node)
-- A late command of an earlier session must not end a later one.
if held and tonumber(held) >= tonumber(number) then return {0} end
call('SET', prefix .. node, number, 'PX', lease)
return {1}
"""

_CLOSE: Final = """
if lives(node, number) then call('DEL', prefix .. node) end
return {1}
"""

# run in which the session has restored its records, cursor of the clean-up, the number of records to look at,
# milliseconds until the hashes expire without a renewal.
_RENEW: Final = """
if ARGV[6] ~= run or (wait > 0 and not lives(node, number)) then return {3, 0} end
if not lives(node, number) then return {0} end
call('PEXPIRE', prefix .. node, lease)
call('PEXPIRE', meta, ARGV[9])
call('PEXPIRE', owners, ARGV[9])
if wait > 0 then return {1, 0} end
local found = call('HSCAN', owners, ARGV[7], 'COUNT', ARGV[8])
for i = 1, #found[2], 2 do
  local its_number, other = string.match(found[2][i + 1], '^%d+ %d (%d+) (.*)$')
  if not lives(other, its_number) then call('HDEL', owners, found[2][i]) end
end
return {1, tonumber(found[1])}
"""

# key, fence, and 1 if it was transferred, for each key.
_RESTORE: Final = """
local held = call('GET', prefix .. node)
if wait <= 0 or (held and held ~= number) then return {0} end
for i = 6, #ARGV, 3 do
  local key, fence = ARGV[i], tonumber(ARGV[i + 1])
  local theirs, _, its_number, other = record_of(key)
  if theirs and theirs >= fence then
    if other ~= node or its_number ~= number then return {0} end
  else
    record(key, fence, ARGV[i + 2], number, node)
    last = math.max(last, fence)
  end
end
call('HSET', meta, 'last', whole(last))
call('SET', prefix .. node, number, 'PX', lease)
return {1}
"""

# key, the smallest acceptable fence.
_ACQUIRE: Final = """
if wait > 0 then return {3, wait} end
if not lives(node, number) then return {0} end
local key, at_least = ARGV[6], tonumber(ARGV[7])
local fence, arrived, its_number, other = record_of(key)
if fence then
  if other == node and its_number == number then
    if fence >= at_least then return {1, fence, arrived} end
  elseif lives(other, its_number) then
    return {2, other}
  end
end
return grant(key, at_least, 0, number, node)
"""

# key, fence.
_RELEASE: Final = """
local answer = refusal(ARGV[6], ARGV[7])
if answer then return answer end
call('HDEL', owners, ARGV[6])
return {1}
"""

# key, fence, the other node.
_TRANSFER: Final = """
local answer = refusal(ARGV[6], ARGV[7])
if answer then return answer end
local its_number = call('GET', prefix .. ARGV[8])
if not its_number and wait > 0 then return {3, wait} end
if not its_number or ARGV[8] == node then return {2} end
return grant(ARGV[6], 0, 1, its_number, ARGV[8])
"""

# key, fence, the time of the alarm or an empty string.
_SET_ALARM: Final = """
local answer = refusal(ARGV[6], ARGV[7])
if answer then return answer end
if ARGV[8] == '' then call('ZREM', alarms, ARGV[6]) else call('ZADD', alarms, ARGV[8], ARGV[6]) end
return {1}
"""

# time, limit.
_DUE_ALARMS: Final = """
return {1, call('ZRANGEBYSCORE', alarms, '-inf', ARGV[6], 'WITHSCORES', 'LIMIT', 0, ARGV[7])}
"""

# key, the time of the alarm.
_CLEAR_ALARM: Final = """
local at = call('ZSCORE', alarms, ARGV[6])
if at and tonumber(at) == tonumber(ARGV[7]) then call('ZREM', alarms, ARGV[6]) end
return {1}
"""

# key.
_OWNER: Final = """
local fence, _, its_number, other = record_of(ARGV[6])
if fence and lives(other, its_number) then return {1, other} end
if wait > 0 then return {3, wait} end
return {2}
"""


OPEN: Final = Script.of(_BEGIN + _OPEN)
CLOSE: Final = Script.of(_BEGIN + _CLOSE)
RENEW: Final = Script.of(_BEGIN + _RENEW)
RESTORE: Final = Script.of(_BEGIN + _RESTORE)
ACQUIRE: Final = Script.of(_BEGIN + _ACQUIRE)
RELEASE: Final = Script.of(_BEGIN + _RELEASE)
TRANSFER: Final = Script.of(_BEGIN + _TRANSFER)
SET_ALARM: Final = Script.of(_BEGIN + _SET_ALARM)
DUE_ALARMS: Final = Script.of(_BEGIN + _DUE_ALARMS)
CLEAR_ALARM: Final = Script.of(_BEGIN + _CLEAR_ALARM)
OWNER: Final = Script.of(_BEGIN + _OWNER)


class Keys(NamedTuple):
    """The keys of an `EntitySupervisor`. `sessions` is the first part of the keys of sessions."""

    meta: bytes
    owners: bytes
    alarms: bytes
    sessions: bytes

    @classmethod
    def of(cls, prefix: str, supervisor: str) -> Keys:
        """Return the keys.

        >>> Keys.of("ashtree", "auctions").owners
        b'ashtree:entities:auctions:owners'
        """
        meta = f"{prefix}:entities".encode()
        name = b"%b:%b" % (meta, supervisor.encode())
        return cls(meta, name + b":owners", name + b":alarms", name + b":session:")

    @property
    def names(self) -> tuple[bytes, ...]:
        """KEYS of the scripts."""
        return self.meta, self.owners, self.alarms


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[str, str]).decode


def identity_of(node: Node) -> bytes:
    """Return the text of a node in keys and records.

    >>> identity_of(Node("web-1", "5f1c"))
    b'["web-1","5f1c"]'
    """
    return _encode((node.name, node.incarnation))


def node_of(identity: Any) -> Node:
    """Return the node of a text of `identity_of`.

    Raises:
        ValueError: it is malformed.
    """
    return Node(*_decode(identity))
