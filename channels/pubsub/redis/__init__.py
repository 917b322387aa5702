"""PubSub through Redis or Valkey: the server, the protocol, the connections, the adapter. Start with `RedisAdapter`."""

from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.server import RedisServer

__all__ = ["RedisAdapter", "RedisServer"]
