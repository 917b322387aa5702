"""What supervisors tell whoever listens: the names of their telemetry events.

    runtime.telemetry.attach(CHILD_RESTARTED, lambda event, measurements, metadata: ...)

Every event has the metadata `supervisor` (its pid), and, where it is about a child, `id`, `pid` and
`type`. An event that nobody listens to costs one dictionary look-up. The order in which one
supervisor executes them is the order in which things happened.
"""

from __future__ import annotations

from actors.instrumentation.telemetry import Event

__all__ = [
    "APPLICATION_CALLBACK_FAILED",
    "APPLICATION_ENDED",
    "APPLICATION_STARTED",
    "CHILD_RESTARTED",
    "CHILD_STARTED",
    "CHILD_STARTING",
    "CHILD_START_FAILED",
    "CHILD_STOP_FAILED",
    "CHILD_TERMINATED",
    "GAVE_UP",
]

CHILD_STARTING: Event = ("supervision", "child", "starting")
"""A child with an id is about to be started, or started again: the next process that the supervisor
spawns. `pid` is None."""

CHILD_STARTED: Event = ("supervision", "child", "started")
"""A child was started at boot, or because somebody asked for it."""

CHILD_TERMINATED: Event = ("supervision", "child", "terminated")
"""A child has ended. Further metadata: `reason`; `stopped`, whether the supervisor made it end."""

CHILD_RESTARTED: Event = ("supervision", "child", "restarted")
"""The supervisor started a child again, because it or a sibling had ended.

Further metadata: `reason`, why the first of them ended (None if this is not the first attempt).
Measurements: `restarts`, attempts within the restart window, this one included.
"""

CHILD_START_FAILED: Event = ("supervision", "child", "start_failed")
"""A child could not be started. Further metadata: `reason`; `restart`, whether the supervisor was
starting it again, and will now try again. `pid` is None."""

CHILD_STOP_FAILED: Event = ("supervision", "child", "stop_failed")
"""A child that was being stopped ended with another reason than the one it was asked to end with:
it crashed while stopping, or was killed because it took too long. Further metadata: `reason`."""

GAVE_UP: Event = ("supervision", "gave_up")
"""A supervisor reached the limit of its restarts and stops its other children and itself.

Further metadata: `id`, `pid` and `type` of the child that ended once too often (`pid` is None if it could not be
started again); `reason`, why it ended; `max_restarts` and `max_seconds`, the limit. Measurements: `restarts`, attempts
within the restart window, the last included.
"""

APPLICATION_STARTED: Event = ("supervision", "application", "started")
"""An application of `supervision.applications.applications` has started. Metadata: its `name`."""

APPLICATION_ENDED: Event = ("supervision", "application", "ended")
"""An application has ended, with everything that came from it.

Metadata: its `name` and `type`; `reason`, the exit reason of its top supervisor; `stopped`, whether it was asked to.
"""

APPLICATION_CALLBACK_FAILED: Event = ("supervision", "application", "callback_failed")
"""What an application wanted done when it was stopped raised. Metadata: its `name`; `callback`, "prep_stop" or "stop";
`exception`."""
