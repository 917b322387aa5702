"""PubSub through Redis or Valkey: the URL, the protocol, the connections and the adapter. Start with `RedisAdapter`."""

from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.url import InvalidRedisUrl

__all__ = ["InvalidRedisUrl", "RedisAdapter"]
