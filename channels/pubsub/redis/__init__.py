"""PubSub through Redis or Valkey: the URL, the protocol, the connections and the adapter. Start with `RedisAdapter`."""

from channels.pubsub.redis.adapter import RedisAdapter

__all__ = ["RedisAdapter"]
