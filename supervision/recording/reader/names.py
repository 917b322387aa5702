"""The names of processes, clients and tasks in a story. They use the classes and topics of the application.

*pure*: the only input is the events of a trace.

| what | name |
|---|---|
| a process | its path, such as `/top/store`; `/top/store#2` for the second process at the path |
| a process of the application, below the children of an endpoint | the last part of its path, if no other path has it |
| a process with another label | its path and its label, such as `/top/worker (order 17)` |
| an entity | its class and its key: `Auction 'a-bell'` |
| a channel | its class and its topic, and its client: `Room 'room:lobby' of ann` |
| a client | the id of its socket, or the host that it connected from |
| the connection of a client | `the connection of ann` |
| a task of the scenario | `the scenario`, or `the task visit` for another task |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from supervision.recording.reader.records import Event, Key, key_of
from supervision.recording.reader.words import child_name

__all__ = ["SCENARIO", "Names"]

SCENARIO = "the scenario"
"""The name of the task that runs the scenario."""

_PID = re.compile(r"<pid (\d+)>")
_NUMBER = re.compile(r"#\d+$")
# The supervisor of an endpoint's children, which are the processes of the application.
_CHILDREN = "/endpoint/children/"


class Names:
    """The names in one trace.

    Args:
        events: the events.
        tasks: the names of the tasks outside of processes, by the numbers of the tasks.

    Attributes:
        connections: for each channel, the process of its connection, as far as the trace shows it.
    """

    def __init__(self, events: Iterable[Event], tasks: Mapping[int, str] | None = None) -> None:
        self._tasks = tasks or {}
        self._paths: dict[Key, str] = {}
        self._roles: dict[Key, str] = {}
        self._labels: dict[Key, str] = {}
        self._entities: dict[Key, str] = {}
        self.connections: dict[Key, Key] = {}
        # For the process of each connection, the id of the client or the host at the other end.
        self._clients: dict[Key, str] = {}
        self._connected: dict[Key, None] = {}
        self._task_names: dict[int, str] = {}
        self._made: dict[Key, str] = {}
        self._read(events)

    def _read(self, events: Iterable[Event]) -> None:
        sources: dict[Any, str] = {}
        ids: dict[Key, str] = {}
        hosts: dict[Key, str] = {}
        connected = self._connected
        callers = _Callers()
        acting: dict[int, None] = {}
        for event in events:
            kind, key = event["kind"], key_of(event)
            callers.read(event)
            match kind:
                case "spawned":
                    self._spawned(key, event)
                    caller = callers.behind(event)
                    if caller is not None:
                        self.connections[key] = caller
                case "labelled":
                    self._labels[key] = event["label"]
                case "joined":
                    self._labels.setdefault(key, f"{event['channel']} {event['topic']!r}")
                    self.connections[key] = key_of(event, "connection_pid")
                case "entity_started":
                    self._entities[key] = f"{event['entity']} {event['key']!r}"
                case "connected":
                    sources[event["connection"]] = event.get("source", "")
                case "serves" if event.get("pid"):
                    hosts[key] = sources.get(event["connection"], "")
                case "client_connected":
                    connected[key] = None
                    if "client" in event:
                        ids[key] = event["client"]
                case "sent" if event["pid"] is None:
                    acting[event["task"]] = None
        self._name_clients(connected, ids, hosts)
        self._name_processes()
        self._name_tasks(sorted(acting))

    def _spawned(self, key: Key, event: Event) -> None:
        node = key[0] if isinstance(key[0], str) else ""
        incarnation = event["inc"]
        self._paths[key] = f"{node}{event['path']}" + (f"#{incarnation}" if incarnation > 1 else "")
        self._roles[key] = event["role"]
        if "label" in event:
            self._labels[key] = event["label"]

    def _name_clients(
        self, connected: Iterable[Key], ids: Mapping[Key, str], hosts: Mapping[Key, str]
    ) -> None:
        taken: dict[str, int] = {}
        for key in connected:
            base = ids.get(key) or hosts.get(key)
            if base:
                self._clients[key] = _numbered(base, taken)

    def _short_names(self) -> dict[Key, str]:
        """Return the last part of each path below the children of an endpoint, if it belongs to one path only."""
        parts: dict[Key, str] = {}
        owners: dict[str, set[str]] = {}
        for key, path in self._paths.items():
            if _CHILDREN in path:
                parts[key] = path.rpartition("/")[2]
                # The processes at one path differ only in the number after the last part.
                owners.setdefault(_unnumbered(parts[key]), set()).add(_unnumbered(path))
        return {key: part for key, part in parts.items() if len(owners[_unnumbered(part)]) == 1}

    def _name_processes(self) -> None:
        taken: dict[tuple[str, str | None], int] = {}
        short = self._short_names()
        for key, path in self._paths.items():
            label, client = self._labels.get(key), self._clients.get(key)
            if client is not None:
                self._made[key] = f"the connection of {client}"
            elif label is not None and key in self.connections:
                owner = self._clients.get(self.connections[key])
                # A client that joins again gets another process.
                number = taken[label, owner] = taken.get((label, owner), 0) + 1
                name = label if number == 1 else f"{label}#{number}"
                self._made[key] = name if owner is None else f"{name} of {owner}"
            elif key in self._entities:
                self._made[key] = self._entities[key]
                if isinstance(key[0], str):
                    self._made[key] += f" on {key[0]}"
            elif label is None or label in path:
                self._made[key] = short.get(key, path)
            else:
                self._made[key] = f"{short.get(key, path)} ({label})"

    def _name_tasks(self, acting: Iterable[int]) -> None:
        taken: dict[str, int] = {}
        for number in acting:
            name = self._tasks.get(number)
            if number == 0:
                self._task_names[number] = "a timer"
                continue
            if name is None or name == SCENARIO:
                self._task_names[number] = SCENARIO
                continue
            # Trio names a task after the module and the function.
            short = name if " " in name else name.rpartition(".")[2]
            self._task_names[number] = _numbered(f"the task {short}", taken)

    # Look-ups

    def process(self, key: Key) -> str:
        """Return the name of a process."""
        return self._made.get(key) or f"process {key[1]}"

    def is_known(self, key: Key) -> bool:
        """Return True if the trace has the start of the process."""
        return key in self._paths

    def label(self, key: Key) -> str | None:
        """Return the name of a process. Return None if the name is only the path."""
        made = self._made.get(key)
        return None if made == self._paths.get(key) else made

    def role(self, key: Key) -> str | None:
        """Return the path of a process without its incarnation. A restarted process has the same role as before."""
        return self._roles.get(key)

    def child(self, event: Event) -> str:
        """Return the name of the child in an event of a supervisor, without the path of the supervisor."""
        path = self._paths.get(key_of(event, "child"))
        return child_name(event["component"], None if path is None else _unnumbered(path))

    def who(self, event: Event, field: str = "pid") -> str:
        """Return the name of the process or of the task that caused an event."""
        if event.get(field) is None:
            return self._task_names.get(event["task"], SCENARIO)
        return self.process(key_of(event, field))

    def client(self, connection: Key) -> str:
        """Return the name of the client of a connection."""
        return self._clients.get(connection) or f"the client of {self.process(connection)}"

    def is_connection(self, key: Key) -> bool:
        """Return True if a process serves a client."""
        return key in self._connected

    def text(self, text: str, node: int | str = 0) -> str:
        """Return a text with the names of processes in place of their pids."""

        def name(found: re.Match[str]) -> str:
            key = node, int(found[1])
            return self.process(key) if key in self._paths else found[0]

        return _PID.sub(name, text) if "<pid " in text else text


class _Callers:
    """The requests to start children, and the processes that sent these requests to supervisors."""

    def __init__(self) -> None:
        self._sent: dict[int, Event] = {}
        self._received: dict[int, Event] = {}

    def read(self, event: Event) -> None:
        if event["kind"] == "sent" and event.get("internal"):
            self._sent[event["n"]] = event
        elif event["kind"] == "received" and event.get("cause") in self._sent:
            self._received[event["n"]] = self._sent[event["cause"]]

    def behind(self, event: Event) -> Key | None:
        """Return the process that requested a start, for the `spawned` event of that start."""
        sent = self._received.get(event.get("cause", -1))
        return None if sent is None or sent["pid"] is None else key_of(sent)


def _unnumbered(path: str) -> str:
    return _NUMBER.sub("", path)


def _numbered(name: str, taken: dict[str, int]) -> str:
    number = taken[name] = taken.get(name, 0) + 1
    return name if number == 1 else f"{name}#{number}"
