"""The clients of channels in a story: the frames that they got, and the times when they joined again."""

from __future__ import annotations

from supervision.recording.reader.model import ClientStory
from supervision.recording.reader.states import ClientState, Event, IncidentState, Key, ProcessState

__all__ = ["Clients", "client_story"]


class Clients:
    """The clients that a reader knows."""

    def __init__(self) -> None:
        # For each connection, the id of its client, and its joined topics with their channels.
        self.ids: dict[Key, str | None] = {}
        self.topics: dict[Key, dict[str, Key]] = {}
        self.labels: dict[Key, str] = {}
        # For each channel whose connection ended, the incident, and the process of the connection.
        self.orphans: dict[Key, tuple[IncidentState, ProcessState]] = {}
        self.waiting: list[ClientState] = []

    def connected(self, event: Event, key: Key) -> None:
        """Note a new connection."""
        self.ids[key] = event.get("client")
        self.topics.setdefault(key, {})

    def joined(self, event: Event, channel: Key, connection: Key) -> None:
        """Note a join, which may be the return of a client."""
        if event["result"] != "ok":
            return
        self.topics.setdefault(connection, {})[event["topic"]] = channel
        self.labels[channel] = f"{event['channel']} {event['topic']}"
        client = self._rejoining(event, connection)
        if client is not None:
            client.rejoined = event
            self.waiting.remove(client)

    def _rejoining(self, event: Event, connection: Key) -> ClientState | None:
        """Return the waiting client whose return this join is; None if there is none."""
        id = event.get("client")
        waiting = [client for client in self.waiting if client.topic == event["topic"]]
        for client in waiting:
            same = client.connection is not None and client.connection.key == connection
            if same or (id is not None and id == client.id):
                return client
        # Without an id, clients cannot be told apart. Take the client that has been away for the longest time.
        for client in waiting:
            if id is None and client.id is None and client.saw == "closed":
                client.certain = False
                return client
        return None

    def told(
        self, event: Event, channel: ProcessState, connection: ProcessState | None, key: Key
    ) -> None:
        """Note the final frame that a client got about a topic."""
        incident = channel.incident
        if incident is None:
            return
        name = None if connection is None else connection.name
        client = ClientState(
            event,
            connection,
            self.ids.get(key),
            event["topic"],
            event["event"],
            unanswered=sum(
                loss.process == channel.name and name is not None and loss.sender == name
                for loss in incident.losses
            ),
        )
        incident.clients.append(client)
        self.waiting.append(client)

    def lost(self, connection: ProcessState, event: Event, incident: IncidentState) -> None:
        """Note the end of a connection, whose client thereby lost all topics."""
        topics = self.topics.pop(connection.key, {})
        for topic in topics or [None]:
            client = ClientState(
                event,
                connection,
                self.ids.get(connection.key),
                topic,
                "closed",
                code=event.get("code"),
                why=event.get("why"),
            )
            incident.clients.append(client)
            if topic is not None:
                self.waiting.append(client)
        for channel in topics.values():
            self.orphans[channel] = incident, connection


def client_story(client: ClientState, began: float) -> ClientStory:
    """Return the story of a client. `began` is the time of the fault."""
    connection = client.connection
    name = None if connection is None else connection.name
    rejoined = None if client.rejoined is None else client.rejoined["t"]
    return ClientStory(
        client=client.id or (f"the client of {name}" if name else "a client"),
        connection=name,
        topic=client.topic,
        saw=client.saw,
        t=client.event["t"],
        event=client.event["n"],
        code=client.code,
        why=client.why,
        unanswered=client.unanswered,
        rejoined=rejoined,
        rejoined_event=None if client.rejoined is None else client.rejoined["n"],
        away=None if rejoined is None else round(rejoined - began, 6),
        certain=client.certain,
    )
