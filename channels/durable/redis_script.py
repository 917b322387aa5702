"""The script that Redis or Valkey runs for `RedisStorage`, its arguments, and its answers.

*pure*. One script numbers messages, keeps them, drops old messages, and publishes the new ones. So all of this is one
atomic step.

    key                     type         content
    PREFIX:KEY              hash         epoch, run, floor, bytes, messages, appends, key_bytes; and for each topic its
                                         last offset, the number and the bytes of its messages
    PREFIX:KEY:used         sorted set   the topics, by the number of their last append
    PREFIX:KEY:values       hash         for each key of a message or an answer its number, its time and its value
    PREFIX:KEY:order        sorted set   these keys, by their number
    PREFIX:KEY:fences       sorted set   `t:` and the topic, by the claimed fence; and `floor`, by the greatest
                                         forgotten fence
    PREFIX:KEY:claim:ID     string       exists for a while after the claim with this ID
    PREFIX:KEY:EPOCH:TOPIC  stream       the messages of a topic; the ID of the message 17 is 17-0

Redis can lose single keys: it evicts or expires them, or a user deletes them. The epoch and all offsets are in one key,
so that Redis can lose them only together. If the topics of `used` are lost, the script begins a new epoch. If a stream
is lost, its offsets stay, and clients get `too_old`. If Redis loses keys of messages and answers, the history treats
them as forgotten. A new epoch has no fences, because the server may have lost the latest claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from math import ceil
from typing import Any, Final

from attrs import frozen

from channels.durable.storage import Appended, Claimed, NewAnswer, NewMessage
from channels.durable.stream import Entry, Limits, Slice

__all__ = [
    "SCRIPT",
    "SHA",
    "Kept",
    "Keys",
    "append_arguments",
    "claim_arguments",
    "parse_appended",
    "parse_claimed",
    "parse_ends",
    "parse_publication",
    "parse_recalled",
    "parse_slice",
    "read_arguments",
]

SCRIPT: Final = """
-- KEYS: those of `Keys`. ARGV: the verb, the prefix of streams, a fresh epoch, the run of the server, 1 to keep the
-- epoch after a restart, milliseconds until the hash expires; then the arguments of the verb.
local meta, used, values, order, fences = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local verb, prefix, run = ARGV[1], ARGV[2], ARGV[4]
local call = redis.call

local function whole(number) return string.format('%.0f', number) end

local epoch, known, floor, bytes, messages, appends, key_bytes =
  unpack(call('HMGET', meta, 'epoch', 'run', 'floor', 'bytes', 'messages', 'appends', 'key_bytes'))
if not epoch or call('HLEN', meta) - 7 ~= call('ZCARD', used) or (known ~= run and ARGV[5] ~= '1') then
  call('DEL', meta, used, values, order, fences)
  epoch, known, floor, bytes, messages, appends, key_bytes = ARGV[3], run, 0, 0, 0, 0, 0
  call('HSET', meta, 'epoch', epoch, 'run', run, 'floor', 0, 'bytes', 0, 'messages', 0, 'appends', 0, 'key_bytes', 0)
elseif known ~= run then
  call('HSET', meta, 'run', run)
end
floor, bytes, messages, appends = tonumber(floor), tonumber(bytes), tonumber(messages), tonumber(appends)

local function stream_of(topic) return prefix .. epoch .. ':' .. topic end

local function row_of(topic)
  local text = call('HGET', meta, 't:' .. topic)
  if not text then return nil end
  local last, count, size = string.match(text, '^(%d+) (%d+) (%d+)$')
  return {last = tonumber(last), count = tonumber(count), size = tonumber(size)}
end

-- The time, and the size of an entry of a stream.
local function facts(entry)
  local fields = entry[2]
  return tonumber(fields[2]), #fields[4] + #fields[6]
end

-- Drop the oldest messages of a stream that are beyond a limit.
local function trim(stream, row, kept, max_bytes, oldest)
  local dropped, start, page, done = 0, '-', 2, false
  while not done do
    local entries = call('XRANGE', stream, start, '+', 'COUNT', page)
    done = #entries == 0
    for _, entry in ipairs(entries) do
      local at, size = facts(entry)
      if row.count <= kept and row.size <= max_bytes and at >= oldest then
        done = true
        break
      end
      dropped, row.count, row.size = dropped + 1, row.count - 1, row.size - size
      messages, bytes = messages - 1, bytes - size
      start = whole(tonumber(string.match(entry[1], '^%d+')) + 1) .. '-0'
    end
    page = 50
  end
  if dropped > 0 then call('XTRIM', stream, 'MAXLEN', row.count) end
end

-- Forget the topics beyond the limits that had no message for the longest time.
local function evict(max_topics, max_total_bytes)
  local topics, evicted = call('ZCARD', used), 0
  while topics > 1 and (topics > max_topics or bytes > max_total_bytes) do
    local topic = call('ZRANGE', used, 0, 0)[1]
    local row = row_of(topic)
    call('DEL', stream_of(topic))
    call('HDEL', meta, 't:' .. topic)
    call('ZREM', used, topic)
    floor = math.max(floor, row.last)
    messages, bytes = messages - row.count, bytes - row.size
    topics, evicted = topics - 1, evicted + 1
  end
  return evicted
end

-- The value of a remembered key, its time and its number.
local function value_of(key)
  local text = call('HGET', values, key)
  if not text then return nil end
  local number, at, value = string.match(text, '^(%d+) (%S+) (.*)$')
  return value, tonumber(at), number
end

local function recalled(key, oldest)
  local value, at = value_of(key)
  if value and at >= oldest then return value end
  return nil
end

local function forget(key)
  local value = value_of(key)
  if value then
    key_bytes = key_bytes - #key - #value
    call('HDEL', values, key)
    call('ZREM', order, key)
  end
end

local function remember(key, value, now)
  forget(key)
  appends, key_bytes = appends + 1, key_bytes + #key + #value
  call('HSET', values, key, whole(appends) .. ' ' .. now .. ' ' .. value)
  call('ZADD', order, whole(appends), key)
end

-- Forget the oldest keys that are beyond a limit. Return the number of those that were not too old.
local function trim_keys(max_keys, max_key_bytes, oldest)
  local forgotten = 0
  while true do
    local key = call('ZRANGE', order, 0, 0)[1]
    if not key then return forgotten end
    local _, at = value_of(key)
    if at >= oldest then
      if call('ZCARD', order) <= max_keys and key_bytes <= max_key_bytes then return forgotten end
      forgotten = forgotten + 1
    end
    forget(key)
  end
end

-- The fence of a member of `fences`; nil if there is none.
local function fence_of(member)
  local text = call('ZSCORE', fences, member)
  return text and tonumber(text) or nil
end

local function size()
  local claims = math.max(0, call('ZCARD', fences) - 1)
  return {call('ZCARD', used), messages, bytes, call('HLEN', values), appends, claims}
end

local function expire(key, seconds) call('PEXPIRE', key, whole(math.min(math.ceil(seconds * 1000), 1e12))) end

-- now, kept, max_bytes, max_age, max_topics, max_total_bytes, max_answers, max_answer_bytes, max_answer_age, channel,
-- the number of messages; then topic, event, body, key and fence of each message; then key and body of each answer.
local function append()
  local now, kept, max_bytes, max_age = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
  local max_key_age, first_answer = tonumber(ARGV[15]), 18 + 5 * tonumber(ARGV[17])
  local oldest_key, has_keys = now - max_key_age, first_answer <= #ARGV
  local refused, has_fences = {}, call('EXISTS', fences) == 1
  for i = 18, first_answer - 1, 5 do
    local claimed = has_fences and fence_of('t:' .. ARGV[i]) or nil
    if claimed ~= tonumber(ARGV[i + 4]) then
      refused[#refused + 1] = (i - 18) / 5
      refused[#refused + 1] = claimed or 0
    end
  end
  if #refused > 0 then return {epoch, size(), {}, 0, {}, {}, 0, refused} end
  -- The two hold the same keys, unless one of them was lost.
  if call('HLEN', values) ~= call('ZCARD', order) then call('DEL', values, order) end
  key_bytes = call('EXISTS', values) == 1 and tonumber(key_bytes) or 0
  local rows, touched, offsets, repeated, answers, news = {}, {}, {}, {}, {}, {}
  for i = 18, first_answer - 1, 5 do
    local topic, event, body, key = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local first = key ~= '' and recalled(key, oldest_key)
    if first then
      repeated[#repeated + 1] = #offsets
      offsets[#offsets + 1] = tonumber(first)
    else
      local stream, row = stream_of(topic), rows[topic]
      if not row then
        row = row_of(topic) or {last = floor, count = 0, size = 0}
        if row.count > 0 and call('EXISTS', stream) == 0 then
          messages, bytes, row.count, row.size = messages - row.count, bytes - row.size, 0, 0
        end
        rows[topic] = row
        touched[#touched + 1] = topic
      end
      local size = #event + #body
      row.last, row.count, row.size = row.last + 1, row.count + 1, row.size + size
      messages, bytes, appends = messages + 1, bytes + size, appends + 1
      call('XADD', stream, whole(row.last) .. '-0', 'at', ARGV[7], 'event', event, 'body', body)
      call('ZADD', used, whole(appends), topic)
      offsets[#offsets + 1] = row.last
      local head = epoch .. ' ' .. whole(row.last) .. ' ' .. #topic .. ' ' .. #event
      news[#news + 1] = head .. '\\n' .. topic .. event .. body
      if key ~= '' then
        has_keys = true
        remember(key, whole(row.last), ARGV[7])
      end
    end
  end
  for _, topic in ipairs(touched) do
    local row, stream = rows[topic], stream_of(topic)
    trim(stream, row, kept, max_bytes, now - max_age)
    expire(stream, max_age)
    call('HSET', meta, 't:' .. topic, whole(row.last) .. ' ' .. whole(row.count) .. ' ' .. whole(row.size))
  end
  local evicted = evict(tonumber(ARGV[11]), tonumber(ARGV[12]))
  for i = first_answer, #ARGV, 2 do
    local first = recalled(ARGV[i], oldest_key)
    if not first then remember(ARGV[i], ARGV[i + 1], ARGV[7]) end
    answers[#answers + 1] = first or ARGV[i + 1]
  end
  local forgotten = has_keys and trim_keys(tonumber(ARGV[13]), tonumber(ARGV[14]), oldest_key) or 0
  if has_keys then
    expire(values, max_key_age)
    expire(order, max_key_age)
  end
  call('HSET', meta, 'floor', whole(floor), 'bytes', whole(bytes), 'messages', whole(messages))
  call('HSET', meta, 'appends', whole(appends), 'key_bytes', whole(key_bytes))
  for _, text in ipairs(news) do call('PUBLISH', ARGV[16], text) end
  return {epoch, size(), offsets, evicted, repeated, answers, forgotten, {}}
end

-- topic, fence, max_fences, the ID of the claim, milliseconds until a claim is not repeated any more.
local function claim()
  local member, fence, mine = 't:' .. ARGV[7], tonumber(ARGV[8]), prefix .. 'claim:' .. ARGV[10]
  local claimed = fence_of(member) or fence_of('floor') or 0
  if fence == claimed and call('EXISTS', mine) == 1 then return {epoch, size(), {}, 0} end
  if fence <= claimed then return {epoch, size(), {claimed}, 0} end
  call('ZADD', fences, 'NX', 0, 'floor')
  call('ZADD', fences, ARGV[8], member)
  call('SET', mine, '', 'PX', ARGV[11])
  -- No fence is below `floor`, so it stays the first member.
  local forgotten = math.max(0, call('ZCARD', fences) - 1 - tonumber(ARGV[9]))
  for _ = 1, forgotten do
    local oldest = call('ZRANGE', fences, 1, 1)[1]
    local floor_now = fence_of(oldest)
    call('ZREM', fences, oldest)
    call('ZADD', fences, whole(floor_now), 'floor')
  end
  return {epoch, size(), {}, forgotten}
end

-- the key, the time of the oldest key that is remembered.
local function recall() return {epoch, {recalled(ARGV[7], tonumber(ARGV[8]))}} end

-- topic, after, limit, the time of the oldest message that is kept.
local function read()
  local row, stream = row_of(ARGV[7]), stream_of(ARGV[7])
  if not row then return {epoch, floor + 1, floor, 0, {}} end
  local after, limit, oldest = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
  local first, start, found = row.last + 1, '-', false
  while not found do
    local entries = call('XRANGE', stream, start, '+', 'COUNT', 50)
    if #entries == 0 then return {epoch, first, row.last, 0, {}} end
    for _, entry in ipairs(entries) do
      local offset = tonumber(string.match(entry[1], '^%d+'))
      if facts(entry) >= oldest then
        first, found = offset, true
        break
      end
      start = whole(offset + 1) .. '-0'
    end
  end
  local begin = math.max(first, after + 1)
  local bodies = {}
  for _, entry in ipairs(call('XRANGE', stream, whole(begin) .. '-0', '+', 'COUNT', limit)) do
    bodies[#bodies + 1] = entry[2][4]
    bodies[#bodies + 1] = entry[2][6]
  end
  return {epoch, first, row.last, begin, bodies}
end

-- the topics.
local function ends()
  local offsets = {}
  for i = 7, #ARGV do
    local row = row_of(ARGV[i])
    offsets[#offsets + 1] = row and row.last or 0
  end
  return {epoch, size(), offsets}
end

local reply = ({append = append, claim = claim, recall = recall, read = read, ends = ends})[verb]()
call('PEXPIRE', meta, ARGV[6])
call('PEXPIRE', used, ARGV[6])
call('PEXPIRE', fences, ARGV[6])
return reply
"""

SHA: Final = sha1(SCRIPT.encode()).hexdigest()  # noqa: S324 - Redis names scripts by it; no secret depends on it


@frozen
class Keys:
    """The names of a history's keys and of its channel.

    The name of a stream consists of `streams`, the epoch, `:` and the topic.

    >>> Keys.of("ashtree", "history", 0).channel
    b'ashtree:history:@0'
    """

    meta: bytes
    used: bytes
    values: bytes
    order: bytes
    fences: bytes
    streams: bytes
    channel: bytes

    @classmethod
    def of(cls, prefix: str, key: str, database: int) -> Keys:
        """Return the names for a history."""
        name = f"{prefix}:{key}".encode()
        return cls(
            meta=name,
            used=name + b":used",
            values=name + b":values",
            order=name + b":order",
            fences=name + b":fences",
            streams=name + b":",
            # Channels belong to no database.
            channel=b"%b:@%d" % (name, database),
        )

    @property
    def names(self) -> tuple[bytes, ...]:
        """KEYS of the script."""
        return self.meta, self.used, self.values, self.order, self.fences


@frozen
class Kept:
    """The size of a history, as in `Storage.statistics`, and a number that grows with each append."""

    topics: int = 0
    messages: int = 0
    bytes: int = 0
    keys: int = 0
    appends: int = 0
    fences: int = 0


def append_arguments(
    batch: Sequence[NewMessage],
    answers: Sequence[NewAnswer],
    limits: Limits,
    channel: bytes,
    now: float,
) -> list[str | int | bytes]:
    """Return the arguments of an append that follow the arguments of every verb."""
    arguments: list[str | int | bytes] = [
        repr(now),
        limits.kept,
        limits.max_bytes,
        repr(limits.max_age),
        limits.max_topics,
        limits.max_total_bytes,
        limits.max_answers,
        limits.max_answer_bytes,
        repr(limits.max_answer_age),
        channel,
        len(batch),
    ]
    for message in batch:
        fence = "" if message.fence is None else message.fence
        arguments += (message.topic, message.event, message.body, message.key or "", fence)
    for answer in answers:
        arguments += (answer.key, answer.body)
    return arguments


def read_arguments(topic: str, after: int, limit: int, oldest: float) -> list[str | int | bytes]:
    """Return the arguments of a read that follow the arguments of every verb."""
    # A client chooses `after`. Lua counts exactly up to this number, which no topic reaches.
    return [topic, min(after, 2**53 - 1), limit, repr(oldest)]


def claim_arguments(
    topic: str, fence: int, limits: Limits, id: str, seconds: float
) -> list[str | int | bytes]:
    """Return the arguments of a claim that follow the arguments of every verb.

    Args:
        topic: the topic.
        fence: the fence.
        limits: the limits of the history.
        id: identifies this claim, also if the node sends it again.
        seconds: time within which the node may send the claim again.
    """
    return [topic, fence, limits.max_fences, id, ceil(seconds * 1000)]


def parse_appended(value: Any) -> tuple[Appended, Kept]:
    """Return the answer to an append.

    Raises:
        ValueError: it is malformed.
    """
    match value:
        case [
            bytes(epoch),
            [*size],
            [*offsets],
            int(evicted),
            [*repeated],
            [*answers],
            int(forgotten),
            [*refused],
        ]:
            pairs = dict(zip(refused[::2], refused[1::2], strict=True))
            appended = Appended(
                epoch.decode(), offsets, evicted, repeated, answers, forgotten, pairs
            )
            return appended, _kept(size)
    raise ValueError("a malformed answer to an append")


def parse_claimed(value: Any) -> tuple[str, Claimed, Kept]:
    """Return the epoch, and the answer to a claim.

    Raises:
        ValueError: it is malformed.
    """
    match value:
        case [bytes(epoch), [*size], [], int(forgotten)]:
            return epoch.decode(), Claimed(forgotten=forgotten), _kept(size)
        case [bytes(epoch), [*size], [int(refused)], int()]:
            return epoch.decode(), Claimed(refused), _kept(size)
    raise ValueError("a malformed answer to a claim")


def parse_recalled(value: Any) -> bytes | None:
    """Return the value of a remembered key, or None.

    Raises:
        ValueError: it is malformed.
    """
    match value:
        case [bytes(), []]:
            return None
        case [bytes(), [bytes(found)]]:
            return found
    raise ValueError("a malformed answer about a key")


def parse_ends(value: Any) -> tuple[str, list[int], Kept]:
    """Return the epoch, and the last offset of each topic that the command names; 0 for a topic without messages.

    Raises:
        ValueError: it is malformed.
    """
    match value:
        case [bytes(epoch), [*size], [*offsets]]:
            return epoch.decode(), offsets, _kept(size)
    raise ValueError("a malformed answer about the ends of streams")


def _kept(size: list[Any]) -> Kept:
    match size:
        case [int(topics), int(messages), int(bytes_), int(keys), int(appends), int(fences)]:
            return Kept(topics, messages, bytes_, keys, appends, fences)
    raise ValueError("a malformed size of the history")


def parse_slice(value: Any) -> Slice:
    """Return the answer to a read.

    Raises:
        ValueError: it is malformed.
    """
    match value:
        case [bytes(name), int(first), int(last), int(begin), [*parts]]:
            epoch = name.decode()
            pairs = zip(parts[::2], parts[1::2], strict=True)
            entries = [
                Entry(epoch, offset, event.decode(), body)
                for offset, (event, body) in enumerate(pairs, begin)
            ]
            return Slice(epoch, first, last, tuple(entries))
    raise ValueError("a malformed answer to a read")


def parse_publication(payload: bytes) -> tuple[str, Entry]:
    r"""Return the topic and the message of a publication.

        >>> parse_publication(b"5f1c 17 1 6\nxedited{}")
        ('x', <'edited' at 5f1c:17, 2 bytes>)

    Raises:
        ValueError: it is malformed.
    """
    head, _, rest = payload.partition(b"\n")
    epoch, offset, topic_size, event_size = head.decode().split(" ")
    middle, end = int(topic_size), int(topic_size) + int(event_size)
    if not 0 <= middle <= end <= len(rest):
        raise ValueError("a truncated publication")
    entry = Entry(epoch, int(offset), rest[middle:end].decode(), rest[end:])
    return rest[:middle].decode(), entry
