"""The events of a trace as sentences, with processes called by their paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

__all__ = ["Happenings", "without_first"]

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_PID = re.compile(r"<pid (\d+)>")
_ENVELOPE = re.compile(
    r"^(?:Cast|CallRequest)\((?:message|request)=(.*?)(?:, sender=Sender\(.*\))?\)$", re.DOTALL
)

_LONG = 70

_ENDS = {
    "Reason.NORMAL": "ended",
    "Reason.SHUTDOWN": "was shut down",
    "Reason.KILLED": "was killed",
    "Reason.KILL": "was killed",
    "Reason.NOPROC": "was not there",
}


def without_first(label: str) -> str:
    """The path of a process, with its incarnation unless that is the first."""
    return label.removesuffix("#1")


class Happenings:
    """What the events of a run say.

    Args:
        lines: of the trace.
        failed_at: how many of them count, and the time; None for all.

    Attributes:
        events: those that count.
    """

    def __init__(self, lines: Iterable[bytes], failed_at: tuple[int, float] | None) -> None:
        everything = [_decode(line) for line in lines]
        self._all = everything
        self.events = everything if failed_at is None else everything[: failed_at[0]]
        # By node and number of process.
        self._paths: dict[tuple[Any, Any], str] = {}
        self._supervisors: set[str] = set()
        self._crashed: set[tuple[Any, Any]] = set()
        for event in everything:
            kind, key = event["kind"], self._key(event)
            if kind == "spawned":
                node = key[0] if isinstance(key[0], str) else ""
                self._paths[key] = f"{node}{event['path']}#{event['inc']}"
            elif kind == "child_started":
                self._supervisors.add(self._paths.get(key, ""))
            elif kind == "crash":
                self._crashed.add(key)

    # Names

    def label(self, event: dict[str, Any]) -> str | None:
        """Who did it: a path with its incarnation."""
        return self._paths.get(self._key(event))

    def called(self, label: str) -> str:
        """What a task is called in a sentence."""
        name = without_first(label)
        return f"the supervisor {name}" if label in self._supervisors else name

    def _who(self, event: dict[str, Any]) -> str:
        label = self.label(event)
        return "the scenario" if label is None else self.called(label)

    def _other(self, event: dict[str, Any], field: str) -> str:
        number = event.get(field)
        label = self._paths.get((event.get("node"), number))
        return f"process {number}" if label is None else without_first(label)

    @staticmethod
    def _key(event: dict[str, Any]) -> tuple[Any, Any]:
        return event.get("node"), event.get("pid")

    def causes(self, event: dict[str, Any], most: int = 4) -> list[int]:
        """The numbers of the events without which it would not have happened at this moment."""
        found: list[int] = []
        cause = self._cause(event)
        while cause is not None and len(found) < most and cause["t"] == event["t"]:
            found.append(cause["n"])
            cause = self._cause(cause)
        return found

    # Sentences

    def sentence(self, event: dict[str, Any], *, whole: bool = False) -> str | None:
        """What happened; None for what is not worth telling.

        Args:
            event: one of the events.
            whole: whether messages are worth telling, too.
        """
        write = _SENTENCES.get(event["kind"])
        if write is None and whole:
            write = _MESSAGES.get(event["kind"])
        return None if write is None else write(self, event)

    def _exited(self, event: dict[str, Any]) -> str | None:
        if self._key(event) in self._crashed:
            # Told as a crash, with the error.
            return None
        reason = event["reason"]
        return f"{self._who(event)} {_ended(reason)}{self._because(event)}"

    def _because(self, event: dict[str, Any]) -> str:
        """The link through which an end came, if it came through one."""
        cause = self._cause(event)
        if cause is None or cause["kind"] != "signal" or not cause["linked"] or not cause["pid"]:
            return ""
        return f", linked to {self._other(cause, 'pid')}"

    def _crash(self, event: dict[str, Any]) -> str:
        if event["error"] == "None":
            # By an exit that was not its own, but had an error in it.
            return f"{self._who(event)} {_ended(event['reason'])}"
        told = f"{self._who(event)} crashed with {event['error']}"
        key = self._key(event)
        for before in reversed(self._all[: event["n"]]):
            if before["kind"] == "received" and self._key(before) == key:
                return f"{told}, after {self._message(before)}"
        return told

    def _restarted(self, event: dict[str, Any]) -> str:
        new = self._other(event, "child")
        return f"{self._who(event)} started {_unquoted(event['id'])} again, as {new}"

    def _start_failed(self, event: dict[str, Any]) -> str:
        return f"{self._who(event)} could not start {_unquoted(event['id'])}: {event['reason']}"

    def _stop_failed(self, event: dict[str, Any]) -> str:
        return f"{self._who(event)} could not stop {_unquoted(event['id'])}: {event['reason']}"

    def _gave_up(self, event: dict[str, Any]) -> str:
        return f"{self._who(event)} gave up on {_unquoted(event['id'])}"

    def _zombie(self, event: dict[str, Any]) -> str:
        return f"{self._who(event)} did not end when it was killed, and was declared dead"

    def _dead_letter(self, event: dict[str, Any]) -> str:
        to = self._named(event["to"], event)
        return f"{self._text(event['message'], event)} for {to} found nobody"

    def _note(self, event: dict[str, Any]) -> str:
        known = {"n", "t", "round", "task", "kind", "node", "text", "pid", "cause"}
        fields = ", ".join(f"{name} {value}" for name, value in event.items() if name not in known)
        return f"noted: {event['text']}{f' ({fields})' if fields else ''}"

    def _received(self, event: dict[str, Any]) -> str:
        cause = self._cause(event)
        if cause is not None and cause["kind"] == "exited":
            return f"{self._who(event)} learned that {without_first(self.label(cause) or '')} had ended"
        return f"{self._who(event)} took {self._message(event)}"

    def _sent(self, event: dict[str, Any]) -> str:
        to = self._other(event, "to")
        return f"{self._who(event)} sent {self._text(event['message'], event)} to {to}"

    def _message(self, event: dict[str, Any]) -> str:
        """What somebody received."""
        cause = self._cause(event)
        if cause is None:
            return self._text(event.get("message", "a message"), event)
        if cause["kind"] == "exited":
            return f"the end of {without_first(self.label(cause) or '')}"
        if cause["kind"] == "sent":
            return f"{self._text(cause['message'], cause)} from {self._who(cause)}"
        return "a message"

    def _cause(self, event: dict[str, Any]) -> dict[str, Any] | None:
        number = event.get("cause")
        return None if number is None else self._all[number]

    def _text(self, message: str, event: dict[str, Any]) -> str:
        """A message, without the envelope that a call or a cast has around it, and with paths for pids."""
        found = _ENVELOPE.match(message)
        return self._named(_short(message if found is None else found[1]), event)

    def _named(self, text: str, event: dict[str, Any]) -> str:
        def path(found: re.Match[str]) -> str:
            label = self._paths.get((event.get("node"), int(found[1])))
            return found[0] if label is None else without_first(label)

        return _PID.sub(path, text)


def _ended(reason: str) -> str:
    return _ENDS.get(reason, f"ended with {_short(reason)}")


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] == "'" else text


_SENTENCES: dict[str, Callable[[Happenings, dict[str, Any]], str | None]] = {
    "exited": Happenings._exited,
    "crash": Happenings._crash,
    "child_restarted": Happenings._restarted,
    "child_start_failed": Happenings._start_failed,
    "child_stop_failed": Happenings._stop_failed,
    "gave_up": Happenings._gave_up,
    "zombie": Happenings._zombie,
    "dead_letter": Happenings._dead_letter,
    "note": Happenings._note,
}

_MESSAGES: dict[str, Callable[[Happenings, dict[str, Any]], str | None]] = {
    "received": Happenings._received,
    "sent": Happenings._sent,
}
