"""The script that Redis or Valkey runs for `RedisStorage`, its arguments, and its answers.

*pure*. One script does everything, so that each step is whole: it numbers messages, keeps them, drops old ones, and
publishes the new ones.

    key                     type         content
    PREFIX:KEY              hash         epoch, run, floor, bytes, messages, appends; and for each topic its last
                                         offset, the number and the bytes of its messages
    PREFIX:KEY:used         sorted set   the topics, by the number of their last append
    PREFIX:KEY:EPOCH:TOPIC  stream       the messages of a topic; the ID of the message 17 is 17-0

Redis can lose each key alone: it evicts or expires keys, or somebody deletes one. The epoch and all offsets are in one
key, so that none is lost without the other. If the sorted set is lost, the script begins a new epoch. If a stream is
lost, its offsets stay, and clients get `too_old`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Final

from attrs import frozen

from channels.durable.storage import NewMessage
from channels.durable.stream import Entry, Limits, Slice

__all__ = [
    "SCRIPT",
    "SHA",
    "Answer",
    "Kept",
    "Keys",
    "append_arguments",
    "parse_appended",
    "parse_ends",
    "parse_publication",
    "parse_slice",
    "read_arguments",
]

SCRIPT: Final = """
-- KEYS: the hash, the sorted set. ARGV: the verb, the prefix of streams, a fresh epoch, the run of the server, 1 to
-- keep the epoch after a restart, milliseconds until the hash expires; then the arguments of the verb.
local meta, used = KEYS[1], KEYS[2]
local verb, prefix, run = ARGV[1], ARGV[2], ARGV[4]
local call = redis.call

local function whole(number) return string.format('%.0f', number) end

local epoch, known, floor, bytes, messages, appends =
  unpack(call('HMGET', meta, 'epoch', 'run', 'floor', 'bytes', 'messages', 'appends'))
if not epoch or call('HLEN', meta) - 6 ~= call('ZCARD', used) or (known ~= run and ARGV[5] ~= '1') then
  call('DEL', meta, used)
  epoch, known, floor, bytes, messages, appends = ARGV[3], run, 0, 0, 0, 0
  call('HSET', meta, 'epoch', epoch, 'run', run, 'floor', 0, 'bytes', 0, 'messages', 0, 'appends', 0)
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
  return topics, evicted
end

-- now, kept, max_bytes, max_age, max_topics, max_total_bytes, channel; then topic, event and body of each message.
local function append()
  local now, kept, max_bytes, max_age = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
  local rows, order, offsets = {}, {}, {}
  for i = 14, #ARGV, 3 do
    local topic, event, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local stream, row = stream_of(topic), rows[topic]
    if not row then
      row = row_of(topic) or {last = floor, count = 0, size = 0}
      if row.count > 0 and call('EXISTS', stream) == 0 then
        messages, bytes, row.count, row.size = messages - row.count, bytes - row.size, 0, 0
      end
      rows[topic] = row
      order[#order + 1] = topic
    end
    local size = #event + #body
    row.last, row.count, row.size = row.last + 1, row.count + 1, row.size + size
    messages, bytes, appends = messages + 1, bytes + size, appends + 1
    call('XADD', stream, whole(row.last) .. '-0', 'at', ARGV[7], 'event', event, 'body', body)
    call('ZADD', used, whole(appends), topic)
    offsets[#offsets + 1] = row.last
  end
  for _, topic in ipairs(order) do
    local row, stream = rows[topic], stream_of(topic)
    trim(stream, row, kept, max_bytes, now - max_age)
    call('PEXPIRE', stream, whole(math.min(math.ceil(max_age * 1000), 1e12)))
    call('HSET', meta, 't:' .. topic, whole(row.last) .. ' ' .. whole(row.count) .. ' ' .. whole(row.size))
  end
  local topics, evicted = evict(tonumber(ARGV[11]), tonumber(ARGV[12]))
  call('HSET', meta, 'floor', whole(floor), 'bytes', whole(bytes))
  call('HSET', meta, 'messages', whole(messages), 'appends', whole(appends))
  for i, offset in ipairs(offsets) do
    local topic, event, body = ARGV[11 + 3 * i], ARGV[12 + 3 * i], ARGV[13 + 3 * i]
    local head = epoch .. ' ' .. whole(offset) .. ' ' .. #topic .. ' ' .. #event
    call('PUBLISH', ARGV[13], head .. '\\n' .. topic .. event .. body)
  end
  return {epoch, evicted, topics, messages, bytes, offsets}
end

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
  return {epoch, call('ZCARD', used), messages, bytes, offsets}
end

local reply = ({append = append, read = read, ends = ends})[verb]()
call('PEXPIRE', meta, ARGV[6])
call('PEXPIRE', used, ARGV[6])
return reply
"""

SHA: Final = sha1(SCRIPT.encode()).hexdigest()  # noqa: S324 - Redis names scripts by it; no secret depends on it


@frozen
class Keys:
    """The names of a history's keys and of its channel. The name of a stream is `streams`, the epoch, `:`, the topic.

    >>> Keys.of("ashtree", "history", 0).channel
    b'ashtree:history:@0'
    """

    meta: bytes
    used: bytes
    streams: bytes
    channel: bytes

    @classmethod
    def of(cls, prefix: str, key: str, database: int) -> Keys:
        """Return the names for a history."""
        name = f"{prefix}:{key}".encode()
        # Channels belong to no database.
        return cls(name, name + b":used", name + b":", b"%b:@%d" % (name, database))


@frozen
class Kept:
    """The size of a history, as in `Storage.statistics`."""

    topics: int = 0
    messages: int = 0
    bytes: int = 0


@frozen
class Answer:
    """The answer to an append, or about ends.

    Attributes:
        epoch: the epoch.
        offsets: the offset of each message, or the last one of each topic; 0 for a topic without one.
        kept: the size of the history.
        evicted: the number of topics that an append has forgotten.
    """

    epoch: str
    offsets: Sequence[int]
    kept: Kept
    evicted: int = 0


def append_arguments(
    batch: Sequence[NewMessage], limits: Limits, channel: bytes, now: float
) -> list[str | int | bytes]:
    """Return the arguments of an append, behind those of every verb."""
    arguments: list[str | int | bytes] = [
        repr(now),
        limits.kept,
        limits.max_bytes,
        repr(limits.max_age),
        limits.max_topics,
        limits.max_total_bytes,
        channel,
    ]
    for message in batch:
        arguments += (message.topic, message.event, message.body)
    return arguments


def read_arguments(topic: str, after: int, limit: int, oldest: float) -> list[str | int | bytes]:
    """Return the arguments of a read, behind those of every verb."""
    return [topic, after, limit, repr(oldest)]


def parse_appended(value: Any) -> Answer:
    """Return the answer to an append.

    Raises:
        ValueError: it is of another form.
    """
    match value:
        case [bytes(epoch), int(evicted), int(topics), int(messages), int(size), [*offsets]]:
            return Answer(epoch.decode(), offsets, Kept(topics, messages, size), evicted)
    raise ValueError("an answer to an append that is of another form")


def parse_ends(value: Any) -> Answer:
    """Return the answer about ends. The arguments are the topics.

    Raises:
        ValueError: it is of another form.
    """
    match value:
        case [bytes(epoch), int(topics), int(messages), int(size), [*offsets]]:
            return Answer(epoch.decode(), offsets, Kept(topics, messages, size))
    raise ValueError("an answer about ends that is of another form")


def parse_slice(value: Any) -> Slice:
    """Return the answer to a read.

    Raises:
        ValueError: it is of another form.
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
    raise ValueError("an answer to a read that is of another form")


def parse_publication(payload: bytes) -> tuple[str, Entry]:
    r"""Return the topic and the message of a publication.

        >>> parse_publication(b"5f1c 17 1 6\nxedited{}")
        ('x', <'edited' at 5f1c:17, 2 bytes>)

    Raises:
        ValueError: it is of another form.
    """
    head, _, rest = payload.partition(b"\n")
    epoch, offset, topic_size, event_size = head.decode().split(" ")
    middle, end = int(topic_size), int(topic_size) + int(event_size)
    if not 0 <= middle <= end <= len(rest):
        raise ValueError("a publication that ends too early")
    entry = Entry(epoch, int(offset), rest[middle:end].decode(), rest[end:])
    return rest[:middle].decode(), entry
