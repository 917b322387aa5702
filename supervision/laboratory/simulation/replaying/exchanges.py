"""The messages of a run as sentences: each request to a process and its answer, in the order of handling.

*pure*: the only input is the events of a trace.

    1.4 s   /stock got 'get' from /clerk/1, and answered 3
    1.4 s   /stock got 'get' from /clerk/2, and answered 3

A request and its answer are one sentence, unless the server did something else in between. The messages of Ashtree's
own code, such as the requests to start a child, have no sentences. The frames of clients have sentences: a push counts
as a request of the client to its channel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import inf
from operator import itemgetter
from typing import Any

from attrs import define, frozen

from supervision.recording.reader.names import Names
from supervision.recording.reader.records import Event, Key, key_of
from supervision.recording.reader.words import in_seconds, ordinal, short

__all__ = ["Exchanges", "Hint", "Line", "Wait", "circle"]

_RUNTIME = frozenset(("exit", "down", "system"))
_HEARTBEATS = "phoenix"


@frozen(kw_only=True)
class Line:
    """A sentence of a story.

    Attributes:
        n: the number of its event.
        t: its time.
        text: the sentence.
        weight: its importance. A story shows a sentence with the weight 0 only if the story has few other sentences.
        thread: the number of the event that began the handling to which the sentence belongs.
    """

    n: int
    t: float
    text: str
    weight: float = 1.0
    thread: int = -1


@frozen(kw_only=True)
class Wait:
    """A process or a task that waits for a process.

    Attributes:
        waiting: the waiting process; None for a task.
        target: the other process, which has to answer or to end.
        since: the time at which the wait began.
        text: the sentence.
    """

    waiting: Key | None
    target: Key
    since: float
    text: str


@frozen(kw_only=True)
class Hint:
    """A remark about several other sentences.

    Attributes:
        text: the remark.
        events: the numbers of the events that the other sentences describe.
    """

    text: str
    events: frozenset[int]


@frozen(eq=False)
class _Asked:
    """A request that a server answered."""

    thread: int
    sent: Event
    received: Event
    answer: str

    @property
    def exchange(self) -> tuple[object, str]:
        """The request and its answer."""
        return self.sent.get("message"), self.answer


@define(eq=False)
class _Push:
    """A frame of a client, its handling by the channel, and the reply."""

    frame: Event
    received: Event | None = None
    reply: Event | None = None


class Exchanges:
    """The messages of a run.

    Args:
        events: the events before the failure, in the order of their numbers. The numbers may have gaps.
        names: the names of processes and tasks.
    """

    def __init__(self, events: Sequence[Event], names: Names) -> None:
        self._events = events
        self._names = names
        # The facts that a first reading of the events collects.
        self._sent: dict[int, Event] = {}
        # The `received` event and the `call_ended` event of each `sent` event, by the number of the `sent` event.
        self._taken: dict[int, Event] = {}
        self._ended: dict[int, Event] = {}
        # A handling has the number of its `received` event.
        # For each `sent` event, the handling during which the sender sent the message.
        self._within: dict[int, int] = {}
        # For each handling, the events of the process during it: messages of the application, pushes and subscriptions.
        self._acts: dict[int, list[int]] = {}
        # For each event in `_acts`, its handling.
        self._act_of: dict[int, int] = {}
        self._received: dict[int, Event] = {}
        # For each reply, its push.
        self._replies: dict[int, _Push] = {}
        self._pushes: dict[int, _Push] = {}
        self._exits: dict[Key, Event] = {}
        self._spawned: dict[Key, Event] = {}
        self._restarted: set[Key] = set()
        # The current handling of each process.
        self._handling: dict[Key, int] = {}
        # For each connection, the frames of the client that the connection has not passed on yet.
        self._frames: dict[Key, list[_Push]] = {}
        self._unanswered: dict[tuple[Key, Any, Any], _Push] = {}
        for event in events:
            take = getattr(self, f"_note_{event['kind']}", None)
            if take is not None:
                take(event)

    # The first reading

    def _note_spawned(self, event: Event) -> None:
        self._spawned[key_of(event)] = event

    def _note_child_restarted(self, event: Event) -> None:
        self._restarted.add(key_of(event, "child"))

    def _note_exited(self, event: Event) -> None:
        self._exits[key_of(event)] = event

    def _note_sent(self, event: Event) -> None:
        number = event["n"]
        self._sent[number] = event
        if event["pid"] is None:
            return
        key = key_of(event)
        handling = self._handling.get(key)
        if handling is not None:
            self._within[number] = handling
            if not event.get("internal"):
                self._act(handling, number)
        waiting = self._frames.get(key)
        if waiting and waiting[0].frame["event"] == event["message_kind"]:
            self._pushes[number] = waiting.pop(0)

    def _note_subscribed(self, event: Event) -> None:
        handling = self._handling.get(key_of(event))
        if handling is not None:
            self._act(handling, event["n"])

    _note_unsubscribed = _note_subscribed

    def _act(self, handling: int, number: int) -> None:
        self._acts.setdefault(handling, []).append(number)
        self._act_of[number] = handling

    def _note_received(self, event: Event) -> None:
        self._received[event["n"]] = event
        self._handling[key_of(event)] = event["n"]
        cause = event.get("cause")
        if cause in self._sent:
            self._taken[cause] = event
            if cause in self._pushes:
                self._pushes[cause].received = event

    def _note_call_ended(self, event: Event) -> None:
        if "sent" in event:
            self._ended[event["sent"]] = event

    def _note_frame(self, event: Event) -> None:
        if "event" not in event or event["topic"] == _HEARTBEATS:
            return
        connection = key_of(event)
        where = connection, event["topic"], event.get("ref")
        if event["direction"] == "in":
            push = _Push(event)
            if event["event"] != "phx_join":
                self._frames.setdefault(connection, []).append(push)
            self._unanswered[where] = push
        elif event["event"] == "phx_reply":
            push_of = self._unanswered.pop(where, None)
            if push_of is not None:
                push_of.reply = event
                self._replies[event["n"]] = push_of
        elif "by" in event:
            handling = self._handling.get((connection[0], event["by"]))
            if handling is not None:
                self._act(handling, event["n"])

    # The sentences

    def lines(self) -> Iterator[Line]:
        """Yield the sentences in the order of the events."""
        for event in self._events:
            write = getattr(self, f"_write_{event['kind']}", None)
            if write is not None:
                yield from write(event)

    def text(self, event: Event) -> str:
        """Return the message of an event with names in place of pids. Shorten a long message."""
        text = event["message"] if "message" in event else event["message_kind"]
        return short(self._names.text(text, event.get("node", 0)))

    def described(self, sent: Event) -> str:
        """Return a message and its sender."""
        push = self._pushes.get(sent["n"])
        if push is not None:
            frame = push.frame
            payload = "" if frame["payload"] == "{}" else f" {short(frame['payload'])}"
            return f"{frame['event']}{payload} from {self._names.client(key_of(frame))}"
        return f"{self.text(sent)} from {self._names.who(sent)}"

    def _write_received(self, event: Event) -> Iterator[Line]:
        sent = self._sent.get(event.get("cause", -1))
        if sent is None or self._names.is_connection(key_of(event)):
            return
        push = self._pushes.get(sent["n"])
        if push is not None:
            yield from self._push(push, event)
        elif not sent.get("internal") and sent["via"] not in _RUNTIME:
            yield self._request(sent, event)

    def _request(self, sent: Event, event: Event) -> Line:
        names = self._names
        text = f"{names.process(key_of(event))} got {self.text(sent)} from {names.who(sent)}"
        ended = self._ended.get(sent["n"])
        if ended is not None and "answer" in ended and not self._acts.get(event["n"]):
            text += f", and answered {self._answer(ended)}{self._later(ended, event)}"
        return self._line(event, text, thread=self._thread(sent))

    def _later(self, ended: Event, event: Event) -> str:
        return f" at {in_seconds(ended['t'])}" if ended["t"] != event["t"] else ""

    def _answer(self, ended: Event) -> str:
        return short(self._names.text(ended["answer"], ended.get("node", 0)))

    def _write_call_ended(self, event: Event) -> Iterator[Line]:
        sent = self._sent.get(event.get("sent", -1))
        if sent is None or self._is_hidden(sent, event["how"]):
            return
        names, how = self._names, event["how"]
        server, caller = names.process(key_of(event, "to")), names.who(event)
        thread, asked = self._thread(sent), self.text(sent)
        taken = self._taken.get(sent["n"])
        if how == "answered":
            if taken is not None and self._acts.get(taken["n"]):
                text = f"{server} answered {self._answer(event)} to {asked} from {caller}"
                yield self._line(event, text, thread=thread)
        elif how == "server_ended":
            text = f"{caller} got no answer to {asked}, because {server} had ended"
            yield self._line(event, text, weight=4, thread=thread)
        elif how == "timeout":
            seconds = in_seconds(event["t"] - sent["t"])
            text = f"{caller} got no answer to {asked} from {server} within {seconds}{self._why(event, sent)}"
            yield self._line(event, text, weight=4, thread=thread)

    def _is_hidden(self, sent: Event, how: str) -> bool:
        return sent["via"] == "system" or bool(sent.get("internal") and how == "answered")

    def _why(self, event: Event, sent: Event) -> str:
        """Return why a call timed out: the processes for which the server waited, or a request not yet read."""
        chain = self._chain(key_of(event, "to"), event["n"])
        if chain:
            around = ", so they wait for each other" if circle(chain) else ""
            return f": {', and '.join(wait.text for wait in chain)}{around}"
        if sent["n"] not in self._taken:
            return ", and it had not read the request"
        return ""

    def _chain(self, server: Key, before: int) -> list[Wait]:
        """Return the wait of a server, then the wait of the process for which the server waits, and so on."""
        of = {wait.waiting: wait for wait in self.waits(before)}
        chain: list[Wait] = []
        while server in of and of[server] not in chain:
            chain.append(of[server])
            server = of[server].target
        return chain

    def _push(self, push: _Push, event: Event) -> Iterator[Line]:
        names, frame = self._names, push.frame
        channel, client = names.process(key_of(event)), names.client(key_of(frame))
        if frame["event"] == "phx_leave":
            yield self._line(event, f"{client} left {frame['topic']}", weight=0.5)
            return
        payload = "" if frame["payload"] == "{}" else f" {short(names.text(frame['payload']))}"
        text = f"{channel} got {frame['event']}{payload} from its client"
        if client not in channel:
            text += f", {client}"
        reply = push.reply
        if reply is not None and not self._acts.get(event["n"]):
            text += f", and replied {self._status(reply)}"
            text += self._later(reply, event)
        yield self._line(event, text, weight=1.5, thread=event["n"])

    def _status(self, reply: Event) -> str:
        payload = "" if reply["payload"] == "{}" else f" {short(reply['payload'])}"
        return f"{reply.get('status', '')}{payload}"

    def _write_frame(self, event: Event) -> Iterator[Line]:
        if event["direction"] == "in" or event.get("topic", _HEARTBEATS) == _HEARTBEATS:
            return
        names, kind = self._names, event["event"]
        client, topic = names.client(key_of(event)), event["topic"]
        if kind == "phx_reply":
            yield from self._reply(event)
        elif kind == "phx_error":
            yield self._line(event, f"{client} got phx_error in {topic}", weight=4)
        elif kind != "phx_close":
            by = names.process((event.get("node", 0), event["by"])) if "by" in event else ""
            payload = "" if event["payload"] == "{}" else f" {short(event['payload'])}"
            text = f"{client} got the push {kind}{payload} in {topic}{f' from {by}' if by else ''}"
            yield self._line(event, text, weight=1.5, thread=self._act_of.get(event["n"]))

    def _reply(self, event: Event) -> Iterator[Line]:
        push = self._replies.get(event["n"])
        if push is None or push.received is None or push.frame["event"] == "phx_leave":
            return
        handling = push.received["n"]
        if self._acts.get(handling):
            channel = self._names.process(key_of(push.received))
            text = f"{channel} replied {self._status(event)} to {push.frame['event']}"
            yield self._line(event, text, weight=1.5, thread=handling)

    def _write_joined(self, event: Event) -> Iterator[Line]:
        client = self._names.client(key_of(event, "connection_pid"))
        verb = "joined" if event["result"] == "ok" else "was refused in"
        yield self._line(event, f"{client} {verb} {event['topic']}", weight=1)

    def _write_subscribed(self, event: Event) -> Iterator[Line]:
        text = f"{self._names.process(key_of(event))} subscribed to {event['topic']}"
        if event["count"] > 1:
            text += f" for the {ordinal(event['count'])} time, and now gets each message {event['count']} times"
        yield self._line(event, text, weight=1.5, thread=self._act_of.get(event["n"]))

    def _write_unsubscribed(self, event: Event) -> Iterator[Line]:
        text = f"{self._names.process(key_of(event))} unsubscribed from {event['topic']}"
        yield self._line(event, text, weight=1.5, thread=self._act_of.get(event["n"]))

    def _write_dead_letter(self, event: Event) -> Iterator[Line]:
        if event["via"] in _RUNTIME or event.get("internal"):
            return
        who = "" if event["pid"] is None and event["task"] == 0 else self._names.who(event)
        sent = f"{who} sent {self.text(event)}" if who else f"{self.text(event)} was sent"
        yield self._line(event, f"{sent} to {self._gone(event)}", weight=5)

    def _write_call_refused(self, event: Event) -> Iterator[Line]:
        who = self._names.who(event)
        text = f"{who} asked {self.text(event)} of {self._gone(event)}"
        yield self._line(event, text, weight=5)

    def _gone(self, event: Event) -> str:
        """Describe the address of a message that found no process."""
        if event["to_pid"] is None:
            return f"{short(event['to'])}, and no process had that name"
        key = key_of(event, "to_pid")
        end = self._exits.get(key)
        name = self._names.process(key)
        text = f"{name}, which had ended" + ("" if end is None else f" at {in_seconds(end['t'])}")
        role = self._names.role(key)
        for other, spawned in reversed(self._spawned.items()):
            alike = other != key and self._names.role(other) == role
            if alike and spawned["n"] < event["n"] and not self._has_ended(other, event["n"]):
                return f"{text}; {self._names.process(other)} was in its place"
        return text

    def _write_sent(self, event: Event) -> Iterator[Line]:
        """Describe a message that its receiver never read. Skip calls: `_write_call_ended` describes them."""
        number, key = event["n"], key_of(event, "to")
        if number in self._taken or event["via"] not in ("cast", "info"):
            return
        if event.get("internal") or self._names.is_connection(key):
            return
        why = "ended before it read it" if key in self._exits else "has not read it"
        text = f"{self._names.who(event)} sent {self.text(event)} to {self._names.process(key)}, which {why}"
        yield self._line(event, text, weight=1.5, thread=self._thread(event))

    def _thread(self, sent: Event) -> int:
        """Return the first handling in the chain of requests that caused a message.

        The chain begins with a request from a client or a task. Without a handling, return the number of the message.
        """
        handling = self._within.get(sent["n"])
        while handling is not None:
            cause = self._sent.get(self._received[handling].get("cause", -1))
            if cause is None or cause["n"] in self._pushes or cause["pid"] is None:
                return handling
            above = self._within.get(cause["n"])
            if above is None:
                return handling
            handling = above
        return int(sent["n"])

    def _line(
        self, event: Event, text: str, *, weight: float = 1.0, thread: int | None = None
    ) -> Line:
        number = event["n"]
        return Line(n=number, t=event["t"], text=text, weight=weight, thread=thread or number)

    # Waits

    def waits(self, before: float = inf) -> list[Wait]:
        """Return the calls and the stops of children that had not ended before an event, the oldest first.

        Args:
            before: the number of the event; the default is the end of the trace.
        """
        found = [*self._open_calls(before), *self._open_stops(before)]
        return sorted(found, key=lambda wait: wait.since)

    def _open_calls(self, before: float) -> Iterator[Wait]:
        names = self._names
        for number, sent in self._sent.items():
            if number >= before or sent["via"] != "call":
                continue
            ended = self._ended.get(number)
            if ended is not None and ended["n"] < before:
                continue
            target, waiting = key_of(sent, "to"), None if sent["pid"] is None else key_of(sent)
            if waiting is not None and self._has_ended(waiting, before):
                continue
            text = (
                f"{names.who(sent)} waits for {names.process(target)} to answer {self.text(sent)}"
            )
            yield Wait(waiting=waiting, target=target, since=sent["t"], text=text)

    def _open_stops(self, before: float) -> Iterator[Wait]:
        """Yield the supervisors that wait for the end of a child."""
        names = self._names
        events = self._events
        for event in events[: bisect_left(events, before, key=itemgetter("n"))]:
            if event["kind"] != "signal" or event["linked"] or event["exit"] != "shutdown":
                continue
            waiting, target = key_of(event), key_of(event, "to")
            spawned = self._spawned.get(target)
            if spawned is None or key_of(spawned, "parent") != waiting or not waiting[1]:
                continue
            if not self._has_ended(target, before) and not self._has_ended(waiting, before):
                text = f"{names.process(waiting)} waits for {names.process(target)} to stop"
                yield Wait(waiting=waiting, target=target, since=event["t"], text=text)

    def _has_ended(self, key: Key, before: float) -> bool:
        end = self._exits.get(key)
        return end is not None and end["n"] < before

    # Hints

    def same_answers(self) -> Iterator[Hint]:
        """Yield a hint for two requests that got the same answer before either sender sent its next request.

        A lost update has this order: two reads, then two writes. So does a decision that relies on an old read.
        """
        by_server: dict[Key, list[_Asked]] = {}
        for number, received in self._taken.items():
            sent, ended = self._sent[number], self._ended.get(number, {})
            if sent["via"] == "call" and not sent.get("internal") and "answer" in ended:
                asked = _Asked(self._thread(sent), sent, received, self._answer(ended))
                by_server.setdefault(key_of(received), []).append(asked)
        for server, requests in by_server.items():
            for position, (one, other) in enumerate(pairwise(requests)):
                if one.thread == other.thread or one.exchange != other.exchange:
                    continue
                later = requests[position + 2 :]
                following = [
                    next((each for each in later if each.thread == asked.thread), None)
                    for asked in (one, other)
                ]
                if all(following):
                    about = (one, other, *following)
                    yield Hint(
                        text=self._both(server, one, other),
                        events=frozenset(each.received["n"] for each in about if each),
                    )

    def _both(self, server: Key, one: _Asked, other: _Asked) -> str:
        names = self._names
        at, server_name = in_seconds(other.received["t"]), names.process(server)
        both = f"both {names.who(one.sent)} and {names.who(other.sent)}"
        return (
            f"at {at}, {server_name} answered {one.answer} to {self.text(one.sent)} from {both}, "
            "before either sent its next request"
        )

    def not_told_again(self) -> Iterator[str]:
        """Yield a sentence for each kind of message that a process got before its restart, but not after it.

        The new process begins without the state of the old process. Often it did not repeat a subscription. Processes
        of one role that no supervisor restarted are siblings, and not each other's replacements.
        """
        names = self._names
        got: dict[Key, dict[str, Event]] = {}
        for number, event in self._taken.items():
            sent = self._sent[number]
            if not sent.get("internal") and sent["via"] not in _RUNTIME:
                got.setdefault(key_of(event), {}).setdefault(sent["message_kind"], sent)
        by_role: dict[str, list[Key]] = {}
        for key, spawned in self._spawned.items():
            if not names.is_connection(key) and key not in names.connections:
                by_role.setdefault(spawned["role"], []).append(key)
        for keys in by_role.values():
            last = keys[-1]
            if last not in self._restarted or last in self._exits:
                continue
            for before in (key for key in keys[:-1] if key in self._exits):
                for kind, sent in got.get(before, {}).items():
                    alive = sent["pid"] is None or key_of(sent) not in self._exits
                    if kind not in got.get(last, {}) and alive and got.get(last):
                        now, then = names.process(last), names.process(before)
                        yield (
                            f"{now} did not get {self.text(sent)}, which {then} had got "
                            f"from {names.who(sent)}"
                        )


def circle(waits: Iterable[Wait]) -> list[Wait]:
    """Return the waits that form a circle, in the order of the circle. Return an empty list if there is no circle."""
    of = {wait.waiting: wait for wait in waits if wait.waiting is not None}
    for begin in of:
        path: list[Wait] = []
        here: Key | None = begin
        while here in of and of[here] not in path:
            path.append(of[here])
            here = of[here].target
        if path and here == begin:
            return path
    return []
