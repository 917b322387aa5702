"""The events between nodes in a recording: envelopes, other nodes, entities, and accepted connections.

With the ids in these events, `ashtree story` puts the recordings of several workers or nodes into one order. The ids of
envelopes are those that the nodes use anyway. Nothing here runs without a recorder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from actors.instrumentation.telemetry import Event, Handler
from channels.pubsub.adapter import Encoded
from channels.pubsub.envelope import Envelope, MalformedEnvelope, unpack
from channels.pubsub.exchange import Exchange
from channels.telemetry import (
    ENTITY_BEGAN,
    ENTITY_NODE_DOWN,
    ENTITY_STARTED,
    PUBSUB_NODE_DOWN,
    PUBSUB_NODE_UP,
    PUBSUB_STARTED,
    SOCKET_CONNECTED,
)
from supervision.recording.flight import FlightRecorder
from supervision.recording.recorder import sender_now

__all__ = ["record_nodes"]

_LONG = 80
_TEXTS = 1000
_Data = Mapping[str, Any]
_decode = msgspec.json.Decoder(list[Any]).decode


def record_nodes(recorder: FlightRecorder) -> None:
    """Attach a recorder to the nodes and entities of its runtime, until the recorder closes."""
    nodes = _Nodes(recorder)
    handlers: dict[Event, Handler] = {
        PUBSUB_STARTED: nodes.pubsub_started,
        PUBSUB_NODE_UP: nodes.node_up,
        PUBSUB_NODE_DOWN: nodes.node_down,
        ENTITY_NODE_DOWN: nodes.node_down,
        ENTITY_STARTED: nodes.entity_started,
        ENTITY_BEGAN: nodes.entity_began,
        SOCKET_CONNECTED: nodes.socket_connected,
    }
    for event, handler in handlers.items():
        recorder.on_close(recorder.runtime.telemetry.attach(event, handler))
    recorder.on_close(nodes.close)


class _Nodes:
    """The events of one recorder."""

    def __init__(self, recorder: FlightRecorder) -> None:
        self._add = recorder.add
        self._add_message: Callable[..., object] | None = (
            recorder.add_message if recorder.records_messages else None
        )
        # The names and incarnations of nodes, so that all records of a node share two texts.
        self._texts: dict[str, str] = {}

    def close(self) -> None:
        # The exchanges live longer than the recorder, and keep this object.
        self._add_message = None
        del self._add

    # Envelopes and other nodes

    def pubsub_started(self, _event: object, _measured: _Data, about: _Data) -> None:
        exchange: Exchange = about["exchange"]
        node = exchange.node
        fields = {"name": node.name, "incarnation": node.incarnation}
        self._add("node_named", sender_now(), {**fields, "leaves": _start_of(*fields.values())})
        if self._add_message is not None:
            exchange.message = self._sending(exchange.message, *fields.values())  # type: ignore[method-assign]
            exchange.message_to = self._sending(exchange.message_to, *fields.values())  # type: ignore[method-assign]
            exchange.receive = self._receiving(exchange.receive, node.name)  # type: ignore[method-assign]

    def _sending(self, send: Callable[..., tuple[str, bytes]], node: str, incarnation: str) -> Any:
        def message(*arguments: Any) -> tuple[str, bytes]:
            lane, data = send(*arguments)
            if self._add_message is not None:
                encoded: Encoded = arguments[-1]
                about = encoded.topic[:_LONG], node, incarnation, lane
                number = _decode(data.partition(b"\n")[0])[3]
                self._add_message("envelope_sent", sender_now(), *about, number)
            return lane, data

        return message

    def _receiving(self, receive: Callable[[str, bytes], None], own: str) -> Any:
        def received(lane: str, data: bytes) -> None:
            found: Envelope | None = None
            encoded: Encoded | None = None
            if self._add_message is not None:
                # The exchange counts and reports malformed envelopes.
                with suppress(MalformedEnvelope):
                    found, encoded = unpack(data, max_bytes=len(data))
            # A node ignores its own envelopes.
            if (
                self._add_message is not None
                and found is not None
                and encoded is not None
                and found.node != own
            ):
                if len(self._texts) > _TEXTS:
                    self._texts.clear()
                node, incarnation = (
                    self._texts.setdefault(each, each) for each in (found.node, found.incarnation)
                )
                about = found.topic[:_LONG], node, incarnation, lane, found.number
                self._add_message("envelope_received", sender_now(), *about)
            receive(lane, data)

        return received

    def node_up(self, _event: object, _measured: _Data, about: _Data) -> None:
        node = about["node"]
        fields = {"name": node.name, "incarnation": node.incarnation}
        self._add("node_up", sender_now(), {**fields, "arrives": _start_of(*fields.values())})

    def node_down(self, _event: object, _measured: _Data, about: _Data) -> None:
        node, why = about["node"], about.get("reason", "its entities are gone")
        fields = {"name": node.name, "incarnation": node.incarnation, "why": why}
        self._add("node_lost", sender_now(), fields)

    # Entities and clients

    def entity_started(self, _event: object, _measured: _Data, about: _Data) -> None:
        fields = {
            "entity": about["router"].settings.cls.__name__,
            "supervisor": about["supervisor"],
            "key": about["key"][:_LONG],
            "fence": about["fence"],
        }
        self._add("entity_started", about["pid"], fields)

    def entity_began(self, _event: object, _measured: _Data, about: _Data) -> None:
        if self._add_message is not None:
            # The entity executes this event in its own process.
            self._add_message("entity_began", sender_now(), about["fence"])

    def socket_connected(self, _event: object, _measured: _Data, about: _Data) -> None:
        peer = about["connect_info"].peer_data
        if peer is not None and about["result"] == "ok":
            # The client knows the same address as that of its own end.
            line = f"tcp {peer.address}:{peer.port}"
            self._add("accepted", sender_now(), {"arrives": line, "leaves": f"{line} answer"})


def _start_of(name: str, incarnation: str) -> str:
    return f"{name} {incarnation}"
