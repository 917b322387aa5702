"""A process that follows the recorder of the runtime for the timeline of one page.

The page asks for each part. So a page that is stopped, hidden or slow costs nothing, and a part never waits in a
buffer. The process reads only the records since the last part. It reads all events about processes and supervisors,
but at most `MESSAGES` messages for each part, so that a busy program does not make the timeline expensive.
"""

from __future__ import annotations

from typing import Any, Final

import trio

from actors.process import receive, send
from actors.refs import Pid
from channels.observer.settings import Drawn, ObserverSettings, TimelinePart
from supervision.recording.conversion import Conversion, Record
from supervision.recording.flight import FlightRecorder, recorder_of
from supervision.recording.reader.live import LiveRun

__all__ = ["follow_timeline"]

MESSAGES: Final = 60
"""The largest number of messages in each part with new records."""
FIRST_MESSAGES: Final = 5000
"""The largest number of earlier messages that a page gets when its timeline begins."""
SLICE: Final = 50
"""The number of records that the process reads between two checkpoints."""
_MESSAGES: Final = frozenset(("sent", "delivered"))
_OMITTED: Final = frozenset(("read", "wrote", "call", "call_ended"))

_NOTHING: Final = "The program records nothing. Write Observer(record=True), or open a recorder."
_CLOSED: Final = "The recorder of the program has closed. The timeline ends here."


async def follow_timeline(page: Pid, settings: ObserverSettings) -> None:
    """Send the timeline to the channel of a page in parts, one for each `Drawn`, until the channel ends.

    If the recorder closes, begin again with another recorder. Without another one, send the problem and end.
    """
    problem = _NOTHING
    while (recorder := recorder_of(settings.runtime)) is not None:
        problem = _CLOSED
        timeline = await _Timeline.begin(recorder, contents=settings.payloads)
        # A closed recorder gets no new records, so look for another one.
        while not timeline.is_over and recorder_of(settings.runtime) is recorder:
            part = timeline.part()
            send(page, TimelinePart(part))
            await receive(lambda message: type(message) is Drawn)
            if "more" not in part:
                await trio.sleep(settings.interval)
                await timeline.read_new()
    send(page, TimelinePart({"problem": problem}))


class _Timeline:
    """The timeline. It begins with the oldest record of the ring."""

    def __init__(self, recorder: FlightRecorder, run: LiveRun, conversion: Conversion) -> None:
        self._recorder = recorder
        self._run = run
        self._conversion = conversion
        self._last = -1
        self._has_gap = False

    @classmethod
    async def begin(cls, recorder: FlightRecorder, *, contents: bool) -> _Timeline:
        taken = recorder.snapshot()
        # A program may have many processes, so run this in a thread. The thread reads a copy.
        conversion, lines = await trio.to_thread.run_sync(taken.begin)
        run = LiveRun(began=taken.about["began"], contents=contents)
        timeline = cls(recorder, run, conversion)
        timeline._last = taken.following - 1
        for start in range(0, len(lines), SLICE):
            run.take(lines[start : start + SLICE])
            await trio.lowlevel.checkpoint()
        await timeline._read(taken.records, FIRST_MESSAGES)
        return timeline

    @property
    def is_over(self) -> bool:
        """True if the timeline has grown too large, or misses records. The page then gets a new timeline."""
        return self._run.is_full or self._has_gap

    def part(self) -> dict[str, Any]:
        return self._run.part(seconds=self._recorder.elapsed)

    async def read_new(self) -> None:
        if self._recorder.oldest_event > self._last + 1:
            # The page was stopped for so long that events fell out of the ring.
            self._has_gap = True
            return
        records = self._recorder.since(self._last)
        if records:
            self._last = records[-1][0]
            await self._read(records, MESSAGES)

    async def _read(self, records: list[Record], messages: int) -> None:
        chosen = _choose(records, messages)
        for start in range(0, len(chosen), SLICE):
            lines = self._conversion.convert(chosen[start : start + SLICE])
            self._run.take(lines)
            await trio.lowlevel.checkpoint()


def _choose(records: list[Record], most: int) -> list[Record]:
    """Return the records without calls and frames, and with only the newest `most` messages."""
    sent = [record[0] for record in records if record[2] in _MESSAGES]
    first = sent[-most] if len(sent) > most else -1
    return [
        record
        for record in records
        if record[2] not in _OMITTED and (record[2] not in _MESSAGES or record[0] >= first)
    ]
