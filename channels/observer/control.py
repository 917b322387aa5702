"""The actions of an observer page on processes and loggers, for observers with `control=True`."""

from __future__ import annotations

import logging
from typing import Any, Final

from actors import sys
from actors.errors import CallExit
from actors.exits import SHUTDOWN
from actors.instrumentation.instrument import Instrument
from actors.links import kill, send_exit
from actors.refs import Pid
from actors.runtime import Runtime
from channels.observer.settings import ObserverSettings
from supervision.recording.flight import recorder_of

__all__ = ["ACTIONS", "LEVELS", "LOGGERS", "CrashAsked", "act", "set_level"]

ACTIONS: Final = {
    "exit": "an orderly exit",
    "kill": "the kill",
    "suspend": "the suspension",
    "resume": "the resumption",
    "crash": "a crash on the next message",
}
LOGGERS: Final = ("", "actors", "supervision", "channels")
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class CrashAsked(Exception):
    """A user of an observer page asked for this crash."""


class _CrashOnNext(Instrument):
    """An instrument that makes the next callback of one process raise. It then removes itself."""

    def __init__(self, runtime: Runtime, target: Pid, title: str) -> None:
        self._runtime = runtime
        self._target = target
        self._title = title
        self._remove = runtime.add_instrument(self)

    def process_exited(self, pid: Pid, reason: Any) -> None:
        if pid is self._target:
            self._remove()

    def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
        if pid is self._target and callback != "terminate":
            self._remove()
            _record(self._runtime, "crash", self._target, f"crash {self._title}")
            raise CrashAsked("somebody at the observer page asked for a crash on the next message")


def _record(runtime: Runtime, type: str, target: Pid, text: str) -> None:
    """Record a fault, so that timelines and stories name this fault as the cause of its consequences."""
    recorder = recorder_of(runtime)
    if recorder is not None:
        recorder.fault(type, target, text=f"{text}, asked for on the observer page")


async def act(
    settings: ObserverSettings, action: str, target: Pid | None, title: str, **asked: str
) -> str | None:
    """Carry out one action on a process, and note it in the chronicle.

    Args:
        settings: the settings of the observer.
        action: a key of `ACTIONS`.
        target: the process; None if it has ended.
        title: the name of the process on the page.
        asked: further fields for the chronicle: `by`, the node of the page, if that is another one.

    Returns:
        The problem as one sentence; None if there was none.
    """
    if action not in ACTIONS:
        return f"choose one of {', '.join(ACTIONS)}"
    if target is None:
        return "this process has ended"
    about = {"action": ACTIONS[action], "who": f"{title} {target!r}", **asked}
    settings.chronicle.note("control", pid=target.number, **about)
    runtime = settings.runtime
    if action == "exit":
        _record(runtime, "exit_with", target, f"exit {title}")
        send_exit(target, SHUTDOWN)
    elif action == "kill":
        _record(runtime, "kill", target, f"kill {title}")
        kill(target)
    elif action == "crash":
        _CrashOnNext(runtime, target, title)
    else:
        verb = sys.suspend if action == "suspend" else sys.resume
        try:
            await verb(target, timeout=1.0)
        except CallExit:
            return f"{target!r} did not answer within a second; only a server that is not busy can"
    return None


def set_level(logger: object, level: object) -> str | None:
    """Set the level of one of the loggers. Return the problem as one sentence; None if there was none."""
    if logger not in LOGGERS or level not in LEVELS:
        return f"choose a logger of {LOGGERS} and a level of {LEVELS}"
    logging.getLogger(str(logger)).setLevel(str(level))
    return None
