"""The end of a program that was told twice to stop: at once, whatever its threads and processes do."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NoReturn

__all__ = ["exit_now", "on_second_signal"]

# Seconds for the last lines. A log that goes to a full pipe, or whose lock a thread has, would take for ever.
_FLUSH = 1.0


def exit_now(code: int, sentence: str) -> NoReturn:
    """End the program without running anything more in it, after its log is written out.

    Args:
        code: the exit code.
        sentence: goes to standard error.
    """

    def flush() -> None:
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
        sys.stdout.flush()
        logging.shutdown()

    try:
        last = threading.Thread(target=flush, daemon=True)
        last.start()
        last.join(_FLUSH)
    finally:
        os._exit(code)


def on_second_signal(signals: Iterable[signal.Signals], end: Callable[[int], object]) -> None:
    """Leave the first signal to the handlers that are installed now, and call `end` for the second one.

    Python calls `end` between two instructions of the main thread, so an event loop that is held up does not delay it.
    Whoever has installed the handlers removes these as well.
    """
    received = False

    def installed(signum: int) -> Callable[[int, FrameType | None], None]:
        before = signal.getsignal(signum)

        def handle(number: int, frame: FrameType | None) -> None:
            nonlocal received
            if received:
                end(number)
            received = True
            if callable(before):
                before(number, frame)

        return handle

    for each in signals:
        signal.signal(each, installed(each))
