"""The connections of a history in Redis or Valkey, and their processes.

    subscribe gets the publications of all nodes; its start waits until the first attempt to connect has ended
    call         runs the script

Both connections connect again after a loss. A new subscription may have missed messages, so the history then checks its
topics at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import trio

from channels.durable.redis_script import SCRIPT, SHA, Keys, parse_publication
from channels.durable.storage import Receiver, StorageError
from channels.pubsub.redis.caller import Caller, CallFailed
from channels.pubsub.redis.connection import Options, Subscriber
from channels.pubsub.redis.protocol import Script, pack_command, run_id_of
from channels.pubsub.redis.server import RedisServer
from channels.pubsub.redis.server_errors import ServerError
from channels.telemetry import HISTORY_CONNECTED, HISTORY_DISCONNECTED
from supervision.child_spec import ChildSpec

__all__ = ["RedisConnections"]

_SCRIPT = Script(SCRIPT, SHA)
# The settings of a server that writes each message to its disk before its answer.
_WRITES_ALL = {
    b"appendonly": b"yes",
    b"appendfsync": b"always",
    b"no-appendfsync-on-rewrite": b"no",
}
# Matches if the server was a replica. The server may then lack the last messages of its primary.
_PROMOTED = re.compile(rb"^second_repl_offset:(?!-1\r?$)", re.MULTILINE)
# Milliseconds that the offsets outlive the last use of the history.
_META_TTL = 7 * 24 * 3600 * 1000


_EVENTS = {"connected": HISTORY_CONNECTED, "disconnected": HISTORY_DISCONNECTED}


class RedisConnections:
    """The connections from one start of a history to its end. Made by `RedisStorage.processes`.

    Args:
        server: the server.
        keys: the names of the keys and of the channel.
        receiver: gets the messages, and the events of the connections.
        fresh_epoch: the first part of each new epoch.
        trust_restarts: as for `RedisStorage`.
        max_calls: commands in flight.
        max_reply_bytes: the largest answer of the server.
    """

    def __init__(
        self,
        server: RedisServer,
        keys: Keys,
        receiver: Receiver,
        *,
        fresh_epoch: str,
        trust_restarts: bool,
        max_calls: int,
        max_reply_bytes: int,
    ) -> None:
        self._keys = keys
        self._receiver = receiver
        self._trust_restarts = trust_restarts
        self._fresh_epoch = fresh_epoch
        self._epochs = count()
        # The id of the server's run, and 1 if a restart of the server loses nothing. Both are valid for the present
        # connection.
        self._run_id = b""
        self._keeps = 0
        self._malformed = 0
        settings = Options(
            server=server,
            client_name=keys.meta.decode(),
            report=self._report,
            max_reply_bytes=max_reply_bytes,
        )
        introduction = [
            pack_command("INFO", "server"),
            pack_command("INFO", "replication"),
            pack_command("CONFIG", "GET", "*append*"),
        ]
        self._caller = Caller(settings, introduction, self._introduced, max_calls=max_calls)
        self._subscriber = Subscriber(settings, [keys.channel], self._published)

    def children(self) -> list[ChildSpec]:
        """Return the child specs of the processes."""
        return [ChildSpec(each.name, each.start_link) for each in (self._subscriber, self._caller)]

    def _report(self, kind: str, numbers: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self._receiver.execute(_EVENTS[kind], numbers, about)
        if kind == "connected" and about["connection"] == Subscriber.name:
            self._receiver.check()

    def _published(self, channel: bytes, payload: bytes) -> None:
        try:
            topic, entry = parse_publication(payload)
        except ValueError:
            # No node sends such data. If a node did, the next check finds the message in the storage.
            self._malformed += 1
            return
        self._receiver.receive(topic, entry)

    def _introduced(self, answers: Sequence[Any]) -> str | None:
        info, replication, config = answers
        if isinstance(info, ServerError):
            return f"the server answered to INFO: {info}"
        run_id = run_id_of(info)
        if run_id is None:
            return "the server did not tell its run_id in INFO"
        self._run_id = run_id
        # A user may lack the permission for CONFIG. Then the node does not know the persistence of the server, and
        # treats a restart as a loss.
        facts = config if isinstance(config, dict) else {}
        writes = _WRITES_ALL.items() <= facts.items()
        is_own = isinstance(replication, bytes) and not _PROMOTED.search(replication)
        self._keeps = int((writes and is_own) or self._trust_restarts)
        return None

    async def run(
        self,
        verb: str,
        arguments: Sequence[str | int | bytes],
        timeout: float,
        *,
        is_repeatable: bool = False,
    ) -> Any:
        """Run the script, and return its answer.

        Args:
            verb: the function of the script.
            arguments: the arguments of the verb.
            timeout: seconds until the call fails.
            is_repeatable: send the command again on the next connection if a connection is lost before its answer.

        Raises:
            StorageError: the server was away, answered with an error, or did not answer in time.
        """
        deadline = trio.current_time() + timeout
        # Encode here, so that this call raises the error.
        encoded = [each.encode() if isinstance(each, str) else each for each in arguments]
        was_sent = False
        while True:
            try:
                answer = await self._call(verb, encoded, deadline)
                break
            except CallFailed as error:
                was_sent = was_sent or error.was_sent
                # This does not spin: without a connection, a call waits until its deadline.
                if not is_repeatable or trio.current_time() >= deadline:
                    raise StorageError("redis", error.problem, may_be_kept=was_sent) from error
        if isinstance(answer, ServerError):
            raise StorageError("redis", f"the server answered: {answer}")
        return answer

    async def _call(self, verb: str, arguments: Sequence[int | bytes], deadline: float) -> Any:
        # Each call offers a new epoch, so that no epoch begins twice.
        number = next(self._epochs)
        epoch = f"{self._fresh_epoch}.{number}" if number else self._fresh_epoch

        # The caller calls this once it is connected, so this node knows the run of the server then.
        def packed() -> Sequence[str | int | bytes]:
            return (
                len(self._keys.names),
                *self._keys.names,
                verb,
                self._keys.streams,
                epoch,
                self._run_id,
                self._keeps,
                _META_TTL,
                *arguments,
            )

        return await self._caller.run(_SCRIPT, packed, deadline=deadline)

    def statistics(self) -> dict[str, int]:
        """Return the counters of the connections."""
        connections = (self._caller, self._subscriber)
        return {
            "connected": int(self._caller.is_usable and self._subscriber.is_connected),
            "disconnects": sum(each.losses for each in connections),
            "malformed": self._malformed,
        }
