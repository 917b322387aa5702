"""The telemetry events of supervisors.

    runtime.telemetry.attach(CHILD_RESTARTED, lambda event, measurements, metadata: ...)

Every event has the metadata `supervisor` (its pid). Events about a child also have `id`, `pid`, `type` and
`restart_type` (permanent, transient or temporary). An event without a handler costs one dictionary look-up. A
supervisor emits its events in order.
"""

from __future__ import annotations

from actors.instrumentation.telemetry import Event

__all__ = [
    "APPLICATION_CALLBACK_FAILED",
    "APPLICATION_ENDED",
    "APPLICATION_STARTED",
    "CHILD_REFUSED",
    "CHILD_RESTARTED",
    "CHILD_STARTED",
    "CHILD_STARTING",
    "CHILD_START_FAILED",
    "CHILD_STOP_FAILED",
    "CHILD_TERMINATED",
    "GAVE_UP",
    "RECORDER_WANTED",
]

CHILD_STARTING: Event = ("supervision", "child", "starting")
"""A supervisor is about to start or restart a child with an id. The next process that the supervisor spawns is this
child. `pid` is None."""

CHILD_STARTED: Event = ("supervision", "child", "started")
"""A child was started at boot or on request."""

CHILD_TERMINATED: Event = ("supervision", "child", "terminated")
"""A child has ended. Further metadata: `reason`; `stopped`, True if the supervisor stopped it."""

CHILD_RESTARTED: Event = ("supervision", "child", "restarted")
"""The supervisor restarted a child, because the child or a sibling had ended.

Further metadata: `replaces`, the last pid of the child, or None if it never started; `reason`, the exit reason of the
child that ended, or of the last restart that failed; `max_restarts` and `max_seconds`, the limit; `strategy`, which is
"dynamic" for a dynamic supervisor. Measurements: `restarts`, the number of restart attempts within the window,
including this restart.
"""

CHILD_START_FAILED: Event = ("supervision", "child", "start_failed")
"""The start of a child failed. `pid` is None.

Further metadata: `reason`; `restart`, True if this was a restart, which the supervisor will try again.
"""

CHILD_REFUSED: Event = ("supervision", "child", "refused")
"""A dynamic supervisor refused to start a child, because it has `max_children` children. `pid` is None.

Further metadata: `max_children`.
"""

CHILD_STOP_FAILED: Event = ("supervision", "child", "stop_failed")
"""A child crashed during its stop, or the supervisor killed it after its limit. Further metadata: `reason`."""

GAVE_UP: Event = ("supervision", "gave_up")
"""A supervisor reached the limit of its restarts. It will stop its other children and itself.

Further metadata: `id`, `pid` and `type` of the child that ended last (`pid` is None if its restart failed); `reason`,
the exit reason of that child; `max_restarts` and `max_seconds`, the limit; `strategy`. Measurements: `restarts`, the
number of restart attempts within the window, including the last.
"""

APPLICATION_STARTED: Event = ("supervision", "application", "started")
"""An application of `supervision.applications.applications` has started. Metadata: its `name`."""

APPLICATION_ENDED: Event = ("supervision", "application", "ended")
"""An application has ended, and so has every process that it has spawned.

Metadata: its `name` and `type`; `reason`, the exit reason of its top supervisor; `stopped`, True if it was stopped on
request.
"""

APPLICATION_CALLBACK_FAILED: Event = ("supervision", "application", "callback_failed")
"""A callback of an application raised during the stop. Metadata: its `name`; `callback`, "prep_stop" or "stop";
`exception`."""

RECORDER_WANTED: Event = ("supervision", "recorder", "wanted")
"""A part of the program has events of its own for a simulated run, such as the frames of an endpoint's clients.

Metadata: `extend`, a function that takes the `Recorder` of the runtime. The recorder calls each such function once.
"""
