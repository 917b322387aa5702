"""Decisions of the parent of workers: which worker to start, to stop and to kill, and when.

*pure*: times are arguments, in seconds, and the results are actions for the parent.

A server has places. Each place has listening sockets, and normally one worker that accepts from them. The first worker
starts alone. If it fails, the server does not start, and the error of the worker is printed once. The other workers
start together after it.

    a worker dies            its place gets another worker. If the deaths repeat, the waits grow
    a worker stops itself    the same, while it drains
    replace                  for each place in turn: start a successor, wait until it serves, then stop the old worker
    stop                     all workers stop together; after their own time limits they are killed

During a stop, each place answers new connections with 503 until the last worker has drained:

    a worker has drained             it goes on answering
    a place has no such worker       another worker adopts the place: it accepts from the place's sockets too
    all workers have drained         the parent closes its sockets and releases the workers. Each worker answers the
                                     connections that still wait, and ends

A replacement ends early if a successor does not start. The previous workers go on serving.
"""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, TypeAlias

from attrs import Factory, define, field, frozen

from supervision.backoff import Backoff, Delays

__all__ = [
    "Action",
    "Adopt",
    "Close",
    "Finish",
    "Kill",
    "Note",
    "Place",
    "Plan",
    "Release",
    "Serving",
    "Start",
    "State",
    "Stop",
    "Timing",
    "Worker",
    "worker_count",
]


def worker_count(count: int) -> str:
    """Return a number of workers as text.

    >>> worker_count(1), worker_count(4)
    ('1 worker', '4 workers')
    """
    return f"{count} worker{'s' * (count != 1)}"


class State(StrEnum):
    """The state of a worker."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


_BACKOFF: Final = Backoff(0.1, 5.0, reset_after=60.0)


@frozen(kw_only=True)
class Timing:
    """Time limits of a parent.

    Args:
        start_timeout: seconds for a worker to load the application and to accept connections.
        stop_grace: seconds that a worker gets to stop, in addition to its own `stop_seconds`.
        kill_grace: seconds after a second signal until the workers are killed.
        backoff: the waits before the place of a dead worker gets a new worker.
    """

    start_timeout: float = 60.0
    stop_grace: float = 10.0
    kill_grace: float = 2.0
    backoff: Backoff = _BACKOFF


@define(eq=False)
class Worker:
    """One worker process.

    Attributes:
        id: the lowest positive number that no other living worker has.
        place: the number of its place, from 1.
        generation: the number of replacements that were asked for before its start.
        started: the time of its start.
        state: its state.
        stop_seconds: seconds that the worker needs to stop in order. It reports them when it is ready.
        deadline: the time at which it is killed.
        turns_away: True while it stops together with the others, and answers new connections with 503.
        has_drained: True if its clients have gone.
        is_deaf: True if it could not be told to adopt a place.
    """

    id: int
    place: int
    generation: int
    started: float
    deadline: float
    state: State = State.STARTING
    stop_seconds: float = 0.0
    turns_away: bool = False
    has_drained: bool = False
    is_deaf: bool = False


@define(eq=False)
class Place:
    """One place and its workers.

    Attributes:
        number: the number of the place, from 1.
        current: the worker that serves, or that starts without a predecessor.
        successor: the worker that is starting to replace the current one.
        leaving: workers that stop because another worker has taken their place.
        restart_at: the time of the next start; infinite if none is due.
        restarts: the number of workers of this place that ended without a request.
        last_end: the end of the last of these workers.
        is_open: True until the parent closes the listening sockets.
        host: during a stop, the worker that answers the connections of this place.
    """

    number: int
    delays: Delays
    current: Worker | None = None
    successor: Worker | None = None
    leaving: list[Worker] = Factory(list)
    restart_at: float = math.inf
    restarts: int = 0
    last_end: str | None = None
    is_open: bool = True
    host: Worker | None = None

    def workers(self) -> Iterator[Worker]:
        """Return the living workers of this place."""
        yield from self.leaving
        if self.current is not None:
            yield self.current
        if self.successor is not None:
            yield self.successor

    @property
    def is_served(self) -> bool:
        """True if a worker accepts connections here."""
        return self.current is not None and self.current.state is State.SERVING


@frozen
class Start:
    """Start the process of a worker."""

    worker: Worker


@frozen
class Stop:
    """Send a signal to a worker, so that it stops.

    `together` is True if all workers stop, so that no other worker serves the place.
    """

    worker: Worker
    signum: int
    together: bool = False


@frozen
class Kill:
    """Send SIGKILL to a worker."""

    worker: Worker


@frozen
class Note:
    """Log a sentence, at the level `info`, `warning` or `error`."""

    level: str
    sentence: str


@frozen
class Serving:
    """All places are served for the first time."""


@frozen
class Adopt:
    """Let a worker of another place answer the connections of a place."""

    place: int
    worker: Worker


@frozen
class Close:
    """Close the parent's copies of the listening sockets of a place."""

    place: int


@frozen
class Release:
    """Tell a worker that has drained to accept no more connections, and to end."""

    worker: Worker


@frozen
class Finish:
    """End the parent with this exit code. No worker lives any more."""

    code: int


Action: TypeAlias = Start | Stop | Kill | Note | Serving | Adopt | Close | Release | Finish


@frozen
class End:
    """The end of a worker process.

    Attributes:
        code: its exit code, or minus the number of the signal; None if it could not be started.
        problem: the reason why the process could not start; None if it started.
    """

    code: int | None
    problem: str = ""

    def __str__(self) -> str:
        if self.code is None:
            return f"could not be started: {self.problem}"
        if self.code < 0:
            try:
                return f"was killed by {signal.Signals(-self.code).name}"
            except ValueError:  # a real-time signal
                return f"was killed by signal {-self.code}"
        return f"exited with {self.code}"


_NEVER: Final = math.inf
# A time later than all deadlines.
_LATE: Final = sys.float_info.max


@define(eq=False)
class Plan:
    """The places of a server and their workers. Each method takes an event and returns the actions that follow.

    Args:
        count: the number of places.
        timing: time limits.
        reloads: True if a change of a file replaces the workers. If the first worker fails, the parent then waits for
            a change. With False, the parent ends.
    """

    count: int
    timing: Timing = Timing()
    reloads: bool = field(default=False, kw_only=True)
    places: dict[int, Place] = field(init=False)
    generation: int = field(default=0, init=False)
    is_replacing: bool = field(default=False, init=False)
    _first: Worker | None = field(default=None, init=False)
    _has_served: bool = field(default=False, init=False)
    _signals: list[int] = field(factory=list, init=False)
    _finished: bool = field(default=False, init=False)
    # The changed files that the running replacement loads.
    _cause: str | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.places = {
            number: Place(number, Delays(self.timing.backoff))
            for number in range(1, self.count + 1)
        }

    @property
    def state(self) -> State:
        """The state of the whole server."""
        if self._signals:
            return State.STOPPING
        return State.SERVING if self._has_served else State.STARTING

    @property
    def deadline(self) -> float:
        """The time at which to call `tick`."""
        deadlines = [worker.deadline for worker in self.workers()]
        return min([*deadlines, *(place.restart_at for place in self.places.values())])

    def workers(self) -> Iterator[Worker]:
        """Return the living workers, in the order of their places."""
        for place in self.places.values():
            yield from place.workers()

    # Events

    def begin(self, now: float) -> list[Action]:
        """Start the first worker."""
        start = self._start(self.places[1], now)
        self._first = start.worker
        return [start]

    def ready(self, worker: Worker, now: float, *, stop_seconds: float) -> list[Action]:
        """Note that a worker accepts connections."""
        worker.stop_seconds = stop_seconds
        if worker.state is not State.STARTING:
            return []
        worker.state, worker.deadline = State.SERVING, _NEVER
        actions: list[Action] = [self._progress(f"{_name(worker)} serves")]
        place = self.places[worker.place]
        if place.successor is worker:
            place.successor = None
            actions += self._take_over(place, worker, now)
        if self._first is worker:
            self._first = None
            others = [each for each in self.places.values() if each.current is None]
            actions += [self._start(each, now) for each in others]
        if not self._has_served and all(each.is_served for each in self.places.values()):
            self._has_served = True
            actions.append(Serving())
        return actions + self._continue_replacing(now)

    def stopping(self, worker: Worker, now: float) -> list[Action]:
        """Note that a worker began to stop. If it did so without a request, its place gets another worker."""
        place = self.places[worker.place]
        if self._signals or place.current is not worker:
            return []
        self._leave(worker, now)
        place.restarts += 1
        place.last_end = "stopped by itself"
        self._fill(place, now)
        return [Note("warning", f"{_name(worker)} is stopping")]

    def drained(self, worker: Worker) -> list[Action]:
        """Note that the clients of a worker have gone."""
        worker.has_drained = True
        return self._release()

    def ended(self, worker: Worker, end: End, now: float) -> list[Action]:
        """Note that the process of a worker has ended."""
        place = self.places[worker.place]
        if worker in place.leaving:
            place.leaving.remove(worker)
        if self._signals:
            return self._ended_while_stopping(place, worker)
        if self._first is worker:
            return self._failed_to_start(place, worker, end)
        if place.successor is worker:
            return self._give_up_replacing(place, worker, end, now)
        if place.current is worker:
            place.restarts += 1
            place.last_end = str(end)
            place.current = None
            self._fill(place, now)
            return [Note("error", f"{_name(worker)} {end}"), *self._continue_replacing(now)]
        return self._continue_replacing(now)

    def replace(self, now: float, *, cause: str | None = None) -> list[Action]:
        """Replace all workers, one after the other. Workers that wait for a restart start at once.

        Args:
            now: the time.
            cause: the changed files, for the note at the end; None after a signal.
        """
        if self._signals:
            return []
        self._cause = cause
        self.generation += 1
        self.is_replacing = True
        actions: list[Action] = [self._progress(f"replacing {worker_count(self.count)}")]
        starts = self._start_due(_LATE, now)
        if self.reloads and starts and not self._has_served and self._first is None:
            self._first = starts[0].worker
        return [*actions, *starts, *self._continue_replacing(now)]

    def stop(self, signum: int, now: float) -> list[Action]:
        """Stop all workers. After a second signal, they have at most `kill_grace` to stop."""
        self._signals.append(signum)
        actions: list[Action] = []
        for worker in self.workers():
            if len(self._signals) > 1:
                worker.deadline = min(worker.deadline, now + self.timing.kill_grace)
                actions.append(Stop(worker, signum))
            elif worker.state is not State.STOPPING:
                worker.turns_away = worker.state is State.SERVING
                actions.append(Stop(worker, signum, together=worker.turns_away))
                worker.state = State.STOPPING
                worker.deadline = now + worker.stop_seconds + self.timing.stop_grace
        for place in self.places.values():
            place.restart_at = _NEVER
            actions += self._find_host(place)
        return actions + self._finish_if_empty()

    def tick(self, now: float) -> list[Action]:
        """Carry out what is due."""
        actions: list[Action] = []
        for worker in self.workers():
            if worker.deadline <= now:
                worker.deadline = _NEVER
                what = "start" if worker.state is State.STARTING else "stop"
                actions.append(Note("error", f"{_name(worker)} did not {what} in time; killing it"))
                actions.append(Kill(worker))
        return actions + self._start_due(now, now)

    # Consequences

    def _start(self, place: Place, now: float) -> Start:
        """Start the worker of an empty place, or the successor of its worker."""
        taken = {worker.id for worker in self.workers()}
        worker = Worker(
            id=next(each for each in range(1, len(taken) + 2) if each not in taken),
            place=place.number,
            generation=self.generation,
            started=now,
            deadline=now + self.timing.start_timeout,
        )
        place.restart_at = _NEVER
        if place.current is None:
            place.current = worker
        else:
            place.successor = worker
        return Start(worker)

    def _start_due(self, until: float, now: float) -> list[Start]:
        """Start the workers of the places whose wait ends by `until`."""
        due = [place for place in self.places.values() if place.restart_at <= until]
        return [self._start(place, now) for place in due]

    def _fill(self, place: Place, now: float) -> None:
        """Give a place that has lost its worker another one."""
        if place.successor is not None:
            place.current, place.successor = place.successor, None
        else:
            place.restart_at = now + place.delays.next(now)

    def _take_over(self, place: Place, successor: Worker, now: float) -> list[Action]:
        before, place.current = place.current, successor
        if before is None:
            return []
        self._leave(before, now)
        return [Stop(before, signal.SIGTERM)]

    def _leave(self, worker: Worker, now: float) -> None:
        place = self.places[worker.place]
        worker.state = State.STOPPING
        worker.deadline = now + worker.stop_seconds + self.timing.stop_grace
        place.leaving.append(worker)
        if place.current is worker:
            place.current = None

    def _continue_replacing(self, now: float) -> list[Action]:
        if self._signals or self._first is not None or not self.is_replacing:
            return []
        if any(worker.state is not State.SERVING for worker in self.workers()):
            # Replace one worker at a time. A place that waits for a restart does not delay the others.
            return []
        for place in self.places.values():
            if place.current is not None and place.current.generation < self.generation:
                return [self._start(place, now)]
        self.is_replacing = False
        notes: list[Action] = [self._progress(f"replaced {worker_count(self.count)}")]
        if self._cause is not None:
            notes.append(Note("info", f"reloaded the code after a change of {self._cause}"))
        return notes

    def _progress(self, sentence: str) -> Note:
        """Return the note of a success. With `--reload`, one line about the changed file is enough."""
        return Note("debug" if self.reloads else "info", sentence)

    def _give_up_replacing(
        self, place: Place, worker: Worker, end: End, now: float
    ) -> list[Action]:
        place.successor = None
        if worker.generation < self.generation:
            # The user asked for another replacement after this worker started, so the fault may be corrected.
            return self._continue_replacing(now)
        self.is_replacing = False
        advice = "save the file again" if self.reloads else "send SIGHUP again"
        return [
            Note(
                "error",
                f"the replacement has ended, because {_name(worker)} {end} before it was ready; the previous workers "
                f"go on serving; correct the fault, and {advice}",
            )
        ]

    def _failed_to_start(self, place: Place, worker: Worker, end: End) -> list[Action]:
        place.current = None
        if self.reloads:
            self._first = None
            place.restart_at = _LATE
            waits = f"{_name(worker)} {end} before it was ready; waiting for a change of a file"
            return [Note("error", waits)]
        self._finished = True
        # A worker that exits with a code has printed its error.
        printed = end.code is not None and end.code > 0
        if printed:
            assert end.code is not None
            return [Finish(end.code)]
        return [Note("error", f"{_name(worker)} {end} before it was ready"), Finish(1)]

    def _ended_while_stopping(self, place: Place, worker: Worker) -> list[Action]:
        if place.current is worker:
            place.current = None
        if place.successor is worker:
            place.successor = None
        worker.turns_away = False
        actions: list[Action] = []
        for each in self.places.values():
            actions += self._find_host(each)
        return [*actions, *self._release(), *self._finish_if_empty()]

    def not_adopted(self, number: int, worker: Worker) -> list[Action]:
        """Find another host for a place, because the worker has just ended or does not read its messages."""
        worker.is_deaf = True
        place = self.places[number]
        place.host = None
        return self._find_host(place)

    def _find_host(self, place: Place) -> list[Action]:
        """Find a worker that answers the connections of a place, or close a place that no worker will answer.

        If the place stayed open, clients would connect to it and wait for ever.
        """
        if not place.is_open or (place.host is not None and place.host.turns_away):
            return []
        for worker in (*place.workers(), *self.workers()):
            if not worker.turns_away:
                continue
            if worker.place == place.number:
                place.host = worker
                return []
            if not worker.is_deaf:
                place.host = worker
                return [Adopt(place.number, worker)]
        return [] if any(True for _ in place.workers()) else self._close(place)

    def _release(self) -> list[Action]:
        """Release the workers as soon as all have drained. Until then, the server answers new connections."""
        workers = list(self.workers())
        if not self._signals or not workers or not all(each.has_drained for each in workers):
            return []
        actions: list[Action] = []
        # Close first. The last copies of the sockets are then those of the workers, which answer all who still wait.
        for place in self.places.values():
            actions += self._close(place)
        for worker in workers:
            if worker.turns_away:
                worker.turns_away = False
                actions.append(Release(worker))
        return actions

    def _close(self, place: Place) -> list[Action]:
        if not place.is_open:
            return []
        place.is_open = False
        return [Close(place.number)]

    def _finish_if_empty(self) -> list[Action]:
        if self._finished or any(True for _ in self.workers()):
            return []
        self._finished = True
        return [Finish(0 if len(self._signals) == 1 else 128 + self._signals[-1])]


def _name(worker: Worker) -> str:
    return f"worker {worker.id} (place {worker.place})"
