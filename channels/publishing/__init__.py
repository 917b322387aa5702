"""Publish to the topics of running nodes, from programs that are not nodes. Start with `publish` or `Publisher`."""

from channels.publishing.publisher import (
    AsyncPublisher,
    Publisher,
    PublishError,
    publish,
    publish_async,
)

__all__ = ["AsyncPublisher", "PublishError", "Publisher", "publish", "publish_async"]
