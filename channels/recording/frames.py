"""The clients of a simulated run, with the contents of their frames.

An endpoint offers `record_frames` to the recorder of a simulated runtime. A recording of a running server has the
contents of frames only with `contents=True`; see `channels.recording.clients`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from actors.refs import Pid
from actors.runtime import Runtime
from channels.recording.clients import Clients
from channels.recording.contents import FrameContents
from channels.recording.watched_out import WatchedOut
from channels.telemetry import PUBSUB_SUBSCRIBED, PUBSUB_UNSUBSCRIBED
from supervision.recording.recorder import Recorder

__all__ = ["record_frames"]

_LONG = 80
_Data = Mapping[str, Any]


def record_frames(recorder: Recorder) -> None:
    """Record the clients of a runtime in the trace of a simulated run, until the runtime ends."""
    _Clients(recorder).attach(recorder.runtime)


class _Clients(Clients):
    """The clients of a simulated runtime, with the contents of their frames."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(self._record)
        self._recorder = recorder
        self._contents = contents = FrameContents(self._record, self.filtered_payload)
        self._frame_out = contents.frame_out

    def attach(self, runtime: Runtime) -> list[Callable[[], None]]:
        telemetry = runtime.telemetry
        return [
            *super().attach(runtime),
            telemetry.attach(PUBSUB_SUBSCRIBED, self._subscribed),
            telemetry.attach(PUBSUB_UNSUBSCRIBED, self._unsubscribed),
        ]

    def session_started(self, event: object, measured: _Data, about: _Data) -> None:
        super().session_started(event, measured, about)
        pid, server = about["pid"], about["server"]
        server.out = server.link.out = WatchedOut(server.out, partial(self._frame_out, pid))

    def _record(self, kind: str, pid: Pid, fields: dict[str, Any]) -> None:
        if kind == "joined":
            # The duration is a difference of virtual times, so its last digits may be wrong.
            fields = {**fields, "seconds": round(fields["seconds"], 6)}
        self._recorder.add(kind, pid, fields, causes=False)

    def _subscribed(self, _event: object, measured: _Data, about: _Data) -> None:
        fields = {"topic": about["topic"][:_LONG], "count": measured["count"]}
        self._record("subscribed", about["pid"], fields)

    def _unsubscribed(self, _event: object, _measured: _Data, about: _Data) -> None:
        self._record("unsubscribed", about["pid"], {"topic": about["topic"][:_LONG]})
