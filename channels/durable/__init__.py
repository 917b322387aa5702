"""Durable topics: clients that return get every message that they missed, in order and once.

Start with `DurableChannel` and `History`.
"""

from channels.durable.browser import JAVASCRIPT
from channels.durable.channel import DurableChannel
from channels.durable.history import History
from channels.durable.memory import MemoryStorage
from channels.durable.redis import RedisStorage
from channels.durable.sqlite import SQLiteStorage
from channels.durable.storage import (
    AnswerNotKept,
    AppendFailed,
    FenceRefused,
    HistoryError,
    HistoryLost,
    Storage,
    StorageError,
)
from channels.durable.stream import Entry, Recovery, Slice

__all__ = [
    "JAVASCRIPT",
    "AnswerNotKept",
    "AppendFailed",
    "DurableChannel",
    "Entry",
    "FenceRefused",
    "History",
    "HistoryError",
    "HistoryLost",
    "MemoryStorage",
    "Recovery",
    "RedisStorage",
    "SQLiteStorage",
    "Slice",
    "Storage",
    "StorageError",
]
