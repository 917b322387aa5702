"""The invariant that subscriptions end with their process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from actors import ExitReason, Pid, is_alive
from actors.runtime import Runtime
from channels import PubSub
from channels.connection.session_server import SessionServer
from channels.telemetry import SESSION_STARTED
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.recording.places import Places


class SubscriptionsEnd(Invariant):
    """When a process ends, its subscriptions end too, on every PubSub that has had a client.

    After a process has ended, the invariant waits until the system is at rest. It then looks for subscribers that have
    ended.
    """

    name: ClassVar[str] = "subscriptions_end"

    def __init__(self) -> None:
        super().__init__()
        self._pubsubs: dict[PubSub, None] = {}
        self._has_ended = False

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        # No code detaches this handler, because the telemetry ends with the runtime.
        runtime.telemetry.attach(SESSION_STARTED, self._session_started)

    def _session_started(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        server: SessionServer = about["server"]
        self._pubsubs[server.services.pubsub] = None

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._has_ended = True

    def at_rest(self) -> str | None:
        if not self._has_ended:
            return None
        self._has_ended = False
        for pubsub in self._pubsubs:
            for topic in pubsub.topics():
                for pid in pubsub.subscribers(topic):
                    if not is_alive(pid):
                        return f"{self.who(pid)} has ended, and is still subscribed to {topic!r}"
        return None
