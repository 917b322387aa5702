"""A debugger that opens at an event of a run."""

from __future__ import annotations

import pdb  # noqa: T100 # what this module is for
import sys
from collections.abc import Callable
from types import FrameType

from actors.places import is_program
from supervision.laboratory.simulation.frames import frames_inside

__all__ = ["debugger_at"]

_FROM_EVENT = 3


def debugger_at(event: int) -> Callable[[int], None]:
    """Return an `on_event` callback for `simulate` that opens the debugger at one event.

    The debugger opens at the innermost line of the program. If no line of the program is running, it opens in the code
    that causes the event. `next` continues from there. `continue` and `quit` let the run continue to its end.
    """

    def look(number: int) -> None:
        if number == event:
            # Skip the frames between the event and this function.
            frames = list(frames_inside(_FROM_EVENT))
            program = (frame for frame in frames if is_program(frame.f_code.co_filename))
            _open(next(program, frames[0] if frames else sys._getframe()), event)

    return look


def _open(frame: FrameType, event: int) -> None:
    debugger = pdb.Pdb(nosigint=True)
    debugger.reset()
    above: FrameType | None = frame
    while above is not None:
        above.f_trace = debugger.trace_dispatch
        debugger.botframe = above
        above = above.f_back
    debugger.message(f"event {event} is about to happen")
    debugger.interaction(frame, None)
    if not debugger.quitting and debugger.stopframe is not debugger.botframe:
        sys.settrace(debugger.trace_dispatch)
