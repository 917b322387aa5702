"""A Redis server in memory, for simulated worlds: nodes with a `RedisAdapter` run on it unmodified.

    redis = SimulatedRedis()
    world.nodes.start("redis", redis.main)
    ...
    adapter = RedisAdapter("redis://redis", node_name=node.name, connect=node.connect)
    ...
    world.nodes.kill("redis", power=True)       # and later: world.nodes.boot("redis")

It has the commands that `RedisAdapter` and `RedisStorage` send, with their answers and errors. It treats slow clients
as a real server does. One suite tests it and a real Valkey server: tests/contracts/test_redis_servers.py. It has no ACL
rules and no TLS. It runs the scripts of Ashtree, which `SCRIPTS` lists with their functions in Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from hashlib import sha1
from random import Random
from typing import Any, Final, Literal, Protocol

import trio

from actors.arguments import check_whole
from channels.durable import redis_script
from channels.laboratory.keyspace import Keyspace, Script, ScriptCall
from channels.laboratory.simulated_arbiter import ARBITER_SCRIPTS
from channels.laboratory.simulated_history import run_history_script
from supervision.laboratory.simulation.world.disk import Disk, VirtualFile

__all__ = ["RedisClient", "SimulatedRedis"]

SCRIPTS: Final[Mapping[bytes, Script]] = {
    redis_script.SCRIPT.encode(): run_history_script,
    **ARBITER_SCRIPTS,
}
"""For the text of each script that a server in memory runs, its function in Python.

To add a script, write a function that does the same in one step, and compare both on a real server, as
tests/integration/test_redis_server_contract.py does.
"""

_BY_SHA: Final = {sha1(text).hexdigest().encode(): run for text, run in SCRIPTS.items()}  # noqa: S324 - Redis names scripts by it
_LOG: Final = "appendonly.aof"
# The time of day of a server that no node runs, when Trio's clock is at 0.
_EPOCH = 1_767_225_600.0
_READ_SIZE = 65536
# The largest piece that the server sends at once, like the buffer of a socket. All bytes after it count as waiting.
_PIECE = 65536
_REMEMBERED = 10_000
# The limits of a real server for one command.
_MAX_ARGUMENTS = 1024 * 1024
_MAX_BYTES = 512 * 1024 * 1024


class RedisNode(Protocol):
    """The part of `supervision.simulation.Node` that the server uses."""

    disk: Disk

    def listen(self, port: int = 0) -> Any:
        """Accept connections to a port of this node."""

    def now(self) -> float:
        """Return the time of day on the clock of this node, in seconds."""


class RedisClient:
    """The server's side of one connection.

    Attributes:
        name: the name that the client has set with CLIENT SETNAME.
        channels: the channels that it has subscribed to.
        database: the database that it has selected.
        is_known: True if the client has authenticated, or if the server needs no password.
        waiting_bytes: bytes that wait to be sent to the client.
        reads: the server reads from this client only while it is set.
    """

    def __init__(self, stream: trio.abc.Stream, *, is_known: bool) -> None:
        self.stream = stream
        self.name = b""
        self.channels: dict[bytes, None] = {}
        self.database = 0
        self.is_known = is_known
        self.waiting_bytes = 0
        self.reads = trio.Event()
        self.reads.set()
        self.scope = trio.CancelScope()
        # The client speaks RESP2 until a HELLO. RESP2 has no pushes, so messages are arrays.
        self._push = b"*"
        self._out: deque[bytes] = deque()
        self._marked = trio.Event()
        self._all_sent = trio.lowlevel.ParkingLot()

    def speak_resp3(self) -> None:
        """Send all further messages as RESP3 pushes."""
        self._push = b">"

    @property
    def speaks_resp3(self) -> bool:
        """True if the client gets pushes and maps."""
        return self._push == b">"

    def write(self, data: bytes) -> None:
        """Send bytes soon."""
        self._out.append(data)
        self.waiting_bytes += len(data)
        self._marked.set()

    def push(self, kind: bytes, channel: bytes, last: bytes) -> None:
        """Send a message, or the answer to a subscription."""
        self.write(b"%b3\r\n%b%b%b" % (self._push, _bulk(kind), _bulk(channel), last))

    async def next_piece(self) -> bytes:
        """Wait for bytes to send, and return some of them."""
        while not self._out:
            await self._marked.wait()
            self._marked = trio.Event()
        data = self._out.popleft()
        if len(data) < _PIECE:
            parts, size = [data], len(data)
            while self._out and size < _PIECE:
                parts.append(self._out.popleft())
                size += len(parts[-1])
            data = b"".join(parts)
        return data

    def sent(self, size: int) -> None:
        """Note that the server has sent these bytes."""
        self.waiting_bytes -= size
        if not self.waiting_bytes:
            self._all_sent.unpark_all()

    async def wait_sent(self) -> None:
        """Wait until nothing waits to be sent."""
        if self.waiting_bytes:
            await self._all_sent.park()


class SimulatedRedis:
    r"""A Redis server, usually a node of a simulated world.

    Args:
        port: the port that `main` listens on.
        password: the password that clients must send; None needs no password.
        databases: the number of databases.
        max_output_bytes: bytes that may wait for a client that has subscribed. With more waiting bytes, the server
            closes the connection, as `client-output-buffer-limit` of a real server does.
        appendonly: write each change to a file on the disk of the node, as `appendonly yes` of a real server does. The
            server reads the file when it starts.
        appendfsync: "always" syncs the file before each answer, "everysec" once a second, and "no" never.

    Attributes:
        clients: the open connections, oldest first.
        password: the argument. If you change it, only new connections must know the new password.
        received: the latest commands, without PUBLISH.
        published: the number of PUBLISH commands.
        connects: the number of connections so far.
        run_id: the id of the current run, in hexadecimal digits. Each `boot` sets a new one.
        closed_for_output: connections that the server has closed because of `max_output_bytes`.
        answers: the replies that replace the normal ones, as RESP bytes, by command name. For example, an error:
            `redis.answers[b"PUBLISH"] = b"-OOM command not allowed\r\n"`.

    Without a simulated world, call `serve` for each stream: `nursery.start_soon(redis.serve, stream)`.
    """

    def __init__(
        self,
        *,
        port: int = 6379,
        password: str | None = None,
        databases: int = 16,
        max_output_bytes: int = 32 * 1024 * 1024,
        appendonly: bool = False,
        appendfsync: Literal["always", "everysec", "no"] = "always",
    ) -> None:
        check_whole("SimulatedRedis", "databases", databases)
        check_whole("SimulatedRedis", "max_output_bytes", max_output_bytes)
        self.port = port
        self.password = password
        self.databases = databases
        self.max_output_bytes = max_output_bytes
        self.appendonly = appendonly
        self.appendfsync = appendfsync
        self.clients: dict[RedisClient, None] = {}
        self.received: deque[list[bytes]] = deque(maxlen=_REMEMBERED)
        self.published = 0
        self.connects = 0
        self.closed_for_output = 0
        self.answers: dict[bytes, bytes] = {}
        self._running = trio.Event()
        self._running.set()
        self._runs = 0
        self._keys: dict[int, Keyspace] = {}
        self._scripts: dict[bytes, Script] = {}
        self._node: RedisNode | None = None
        # Without a node, no power failure can happen.
        self._disk = Disk(Random(0))
        self._replayed_at: float | None = None
        self.boot()

    # Running

    def boot(self) -> None:
        """Begin a new run without clients and scripts. Load the data of the earlier runs only with `appendonly`.

        Raises:
            ValueError: the append-only file is damaged, so a real server would not start either.
        """
        self._runs += 1
        self.run_id = f"{self._runs:040x}"
        self.clients = {}
        self._scripts = {}
        self._keys = {}
        self._log: VirtualFile | None = None
        if self.appendonly:
            self._log = self._disk.open(_LOG, "a")
            self._load(self._log)

    def _load(self, log: VirtualFile) -> None:
        requests = _Requests()
        requests.feed(log.read())
        try:
            for number, at, name, *arguments in requests:
                self._replayed_at = float(at)
                keys = self._database(int(number))
                if name == b"DEL":
                    keys.delete(arguments[0])
                elif name == b"FLUSHALL":
                    self._keys = {}
                else:
                    count = 1 + int(arguments[0])
                    names, rest = arguments[1:count], arguments[count:]
                    _BY_SHA[name](ScriptCall(keys, self.publish, self.now, names, rest))
        except (_MalformedRequest, LookupError, ValueError) as error:
            raise ValueError(f"{_LOG} is damaged: {error}") from error
        finally:
            self._replayed_at = None
        # A real server also drops an incomplete command at the end. It does not sync this, so a second power failure
        # may damage its file in the middle, and an operator must repair the file.
        log.truncate(log.size - requests.waiting)
        log.fsync()

    async def main(self, node: RedisNode) -> None:
        """Serve on a node, until it ends: `world.nodes.start("redis", redis.main)`.

        A killed node keeps only its data, and only with `appendonly`. After a boot there are no subscriptions, as after
        the start of a real server. A server that cannot write the file ends.
        """
        self._node, self._disk = node, node.disk
        self.boot()
        listeners = [node.listen(self.port)]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sync_each_second)
                await trio.serve_listeners(self.serve, listeners)
        except* OSError:
            # The server cannot write the file, and clients get no answer. A real server exits too, or refuses changes.
            pass

    async def _sync_each_second(self) -> None:
        while True:
            await trio.sleep(1.0)
            if self._log is not None and self.appendfsync == "everysec":
                self._log.fsync()

    def _keep(self, client: RedisClient, *command: bytes) -> None:
        """Write a change to the append-only file, before the client gets the answer."""
        if not self.appendonly:
            return
        if self._log is None:
            self._log = self._disk.open(_LOG, "a")
        parts = (b"%d" % client.database, repr(self.now()).encode(), *command)
        self._log.write(b"*%d\r\n%b" % (len(parts), b"".join(map(_bulk, parts))))
        if self.appendfsync == "always":
            self._log.fsync()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until it ends."""
        client = RedisClient(stream, is_known=self.password is None)
        self.connects += 1
        self.clients[client] = None
        try:
            with client.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, client)
                    await self._read(client)
                    nursery.cancel_scope.cancel()
        finally:
            self.clients.pop(client, None)
            await trio.aclose_forcefully(stream)

    async def _read(self, client: RedisClient) -> None:
        requests = _Requests()
        while True:
            try:
                data = await client.stream.receive_some(_READ_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            await self._running.wait()
            await client.reads.wait()
            if not data:
                return
            requests.feed(bytes(data))
            try:
                for command in requests:
                    self._answer(client, command)
            except _MalformedRequest as error:
                client.write(_error(f"ERR Protocol error: {error}"))
                await client.wait_sent()
                return

    async def _write(self, client: RedisClient) -> None:
        while True:
            data = await client.next_piece()
            await self._running.wait()
            try:
                await client.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            client.sent(len(data))

    # Faults. To crash the server or to cut its power, kill its node.

    def pause(self) -> None:
        """Read and write nothing until `resume`, as under SIGSTOP. The system still accepts connections."""
        self._running = trio.Event()

    def resume(self) -> None:
        """End a pause."""
        self._running.set()

    def close_clients(self, name: bytes | None = None) -> None:
        """Close the connections with this name, or all connections.

        Args:
            name: the name that the clients have set with CLIENT SETNAME; None closes all connections.
        """
        for client in list(self.clients):
            if name is None or client.name == name:
                client.scope.cancel()

    # Commands

    def publish(self, channel: bytes, payload: bytes) -> int:
        """Send a message to all subscribers, as PUBLISH does. Return their number."""
        last = _bulk(payload)
        subscribers = [client for client in self.clients if channel in client.channels]
        for client in subscribers:
            client.push(b"message", channel, last)
            if client.waiting_bytes > self.max_output_bytes:
                self.closed_for_output += 1
                client.scope.cancel()
        return len(subscribers)

    def _answer(self, client: RedisClient, command: list[bytes]) -> None:
        name = command[0].upper()
        if name == b"PUBLISH":
            self.published += 1
        else:
            self.received.append(command)
        if name in self.answers:
            client.write(self.answers[name])
            return
        handle, least, most = _COMMANDS.get(name, (None, 0, None))
        if handle is None:
            shown = command[0].decode(errors="replace")
            client.write(_error(f"ERR unknown command '{shown}', with args beginning with: "))
        elif len(command) - 1 < least or (most is not None and len(command) - 1 > most):
            shown = name.decode().lower()
            client.write(_error(f"ERR wrong number of arguments for '{shown}' command"))
        elif not client.is_known and name not in (b"HELLO", b"AUTH"):
            client.write(_error("NOAUTH Authentication required."))
        else:
            handle(self, client, *command[1:])

    def _hello(self, client: RedisClient, *options: bytes) -> None:
        if options and options[0] not in (b"2", b"3"):
            wrong = "NOPROTO unsupported protocol version"
            client.write(_error(wrong if options[0].isdigit() else f"ERR {_NOT_A_VERSION}"))
            return
        rest = [*options[1:]]
        while rest:
            option = rest.pop(0).upper()
            if option == b"AUTH" and len(rest) >= 2:
                if not self._admits(rest.pop(0), rest.pop(0)):
                    client.write(_error(_WRONGPASS))
                    return
                client.is_known = True
            elif option == b"SETNAME" and rest:
                client.name = rest.pop(0)
            else:
                shown = option.decode(errors="replace").lower()
                client.write(_error(f"ERR Syntax error in HELLO option '{shown}'"))
                return
        if not client.is_known:
            client.write(_error(_NOAUTH_HELLO))
            return
        if not options or options[0] != b"3":
            client.write(_error("NOPROTO this server in memory speaks RESP3 only; send HELLO 3"))
            return
        client.speak_resp3()
        facts = (
            (b"server", _bulk(b"simulated")),
            (b"proto", b":3\r\n"),
            (b"mode", _bulk(b"standalone")),
        )
        client.write(
            b"%%%d\r\n" % len(facts) + b"".join(_bulk(key) + value for key, value in facts)
        )

    def _auth(self, client: RedisClient, *credentials: bytes) -> None:
        user = credentials[0] if len(credentials) == 2 else b"default"
        if self.password is None and len(credentials) == 1:
            client.write(_error(_NOTHING_TO_CHECK))
        elif self._admits(user, credentials[-1]):
            client.is_known = True
            client.write(_OK)
        else:
            client.write(_error(_WRONGPASS))

    def _admits(self, user: bytes, password: bytes) -> bool:
        return user == b"default" and self.password in (None, password.decode(errors="replace"))

    def _client(self, client: RedisClient, verb: bytes, *arguments: bytes) -> None:
        if verb.upper() != b"SETNAME" or len(arguments) != 1:
            shown = verb.decode(errors="replace")
            client.write(_error(f"ERR unknown subcommand '{shown}'. Try CLIENT HELP."))
        elif any(not 33 <= byte <= 126 for byte in arguments[0]):
            client.write(_error(_BAD_NAME))
        else:
            client.name = arguments[0]
            client.write(_OK)

    def _select(self, client: RedisClient, number: bytes) -> None:
        if not number.isdigit():
            client.write(_error("ERR value is not an integer or out of range"))
        elif int(number) >= self.databases:
            client.write(_error("ERR DB index is out of range"))
        else:
            client.database = int(number)
            client.write(_OK)

    def _ping(self, client: RedisClient, *text: bytes) -> None:
        client.write(_bulk(text[0]) if text else b"+PONG\r\n")

    def _subscribe(self, client: RedisClient, *channels: bytes) -> None:
        for channel in channels:
            client.channels[channel] = None
            client.push(b"subscribe", channel, b":%d\r\n" % len(client.channels))

    def _unsubscribe(self, client: RedisClient, *channels: bytes) -> None:
        for channel in channels or tuple(client.channels):
            client.channels.pop(channel, None)
            client.push(b"unsubscribe", channel, b":%d\r\n" % len(client.channels))

    def _publish(self, client: RedisClient, channel: bytes, payload: bytes) -> None:
        client.write(b":%d\r\n" % self.publish(channel, payload))

    # Keys and scripts

    def now(self) -> float:
        """Return the time of day of the server, in seconds: the one of its node."""
        if self._replayed_at is not None:
            return self._replayed_at
        return _EPOCH + trio.current_time() if self._node is None else self._node.now()

    def _database(self, number: int) -> Keyspace:
        return self._keys.setdefault(number, Keyspace(self.now))

    def _del(self, client: RedisClient, *names: bytes) -> None:
        keys = self._database(client.database)
        found = [name for name in names if keys.delete(name)]
        for name in found:
            self._keep(client, b"DEL", name)
        client.write(b":%d\r\n" % len(found))

    def _exists(self, client: RedisClient, *names: bytes) -> None:
        keys = self._database(client.database)
        client.write(b":%d\r\n" % sum([keys.get(name) is not None for name in names]))

    def _flushall(self, client: RedisClient) -> None:
        self._keys = {}
        self._keep(client, b"FLUSHALL")
        client.write(_OK)

    def _script(self, client: RedisClient, verb: bytes, *arguments: bytes) -> None:
        if verb.upper() == b"FLUSH":
            self._scripts = {}
            client.write(_OK)
        else:
            shown = verb.decode(errors="replace")
            client.write(_error(f"ERR unknown subcommand '{shown}'. Try SCRIPT HELP."))

    def _eval(self, client: RedisClient, script: bytes, number: bytes, *rest: bytes) -> None:
        run = SCRIPTS.get(script)
        if run is None:
            client.write(_error("ERR this server in memory does not know this script"))
            return
        sha = sha1(script).hexdigest().encode()  # noqa: S324 - Redis names scripts by it
        self._scripts[sha] = run
        self._run_script(client, sha, number, rest)

    def _evalsha(self, client: RedisClient, sha: bytes, number: bytes, *rest: bytes) -> None:
        if sha.lower() not in self._scripts:
            client.write(_error("NOSCRIPT No matching script."))
        else:
            self._run_script(client, sha.lower(), number, rest)

    def _run_script(
        self, client: RedisClient, sha: bytes, number: bytes, rest: tuple[bytes, ...]
    ) -> None:
        count = int(number)
        keys = self._database(client.database)
        call = ScriptCall(keys, self.publish, self.now, rest[:count], rest[count:])
        answer = self._scripts[sha](call)
        # A real server also sends the messages of the script after the sync.
        self._keep(client, sha, number, *rest)
        client.write(_value(answer))

    def _info(self, client: RedisClient, *sections: bytes) -> None:
        texts = {
            b"server": f"# Server\r\nrun_id:{self.run_id}\r\n",
            b"replication": "# Replication\r\nrole:master\r\nsecond_repl_offset:-1\r\n",
        }
        wanted = [section.lower() for section in sections] or list(texts)
        found = [texts[section] for section in wanted if section in texts]
        client.write(_bulk("\r\n".join(found).encode()))

    def _config(self, client: RedisClient, verb: bytes, *patterns: bytes) -> None:
        if verb.upper() != b"GET" or not patterns:
            shown = verb.decode(errors="replace")
            client.write(_error(f"ERR unknown subcommand '{shown}'. Try CONFIG HELP."))
            return
        settings = {
            b"appendonly": b"yes" if self.appendonly else b"no",
            b"appendfsync": self.appendfsync.encode(),
            b"no-appendfsync-on-rewrite": b"no",
        }
        found = [
            item
            for item in settings.items()
            if any(fnmatchcase(item[0].decode(), each.decode()) for each in patterns)
        ]
        head = b"%%%d\r\n" % len(found) if client.speaks_resp3 else b"*%d\r\n" % (2 * len(found))
        client.write(head + b"".join([_bulk(key) + _bulk(value) for key, value in found]))


_COMMANDS: dict[bytes, tuple[Callable[..., None] | None, int, int | None]] = {
    b"HELLO": (SimulatedRedis._hello, 0, None),
    b"AUTH": (SimulatedRedis._auth, 1, 2),
    b"CLIENT": (SimulatedRedis._client, 1, None),
    b"SELECT": (SimulatedRedis._select, 1, 1),
    b"PING": (SimulatedRedis._ping, 0, 1),
    b"SUBSCRIBE": (SimulatedRedis._subscribe, 1, None),
    b"UNSUBSCRIBE": (SimulatedRedis._unsubscribe, 0, None),
    b"PUBLISH": (SimulatedRedis._publish, 2, 2),
    b"DEL": (SimulatedRedis._del, 1, None),
    b"EXISTS": (SimulatedRedis._exists, 1, None),
    b"FLUSHALL": (SimulatedRedis._flushall, 0, 0),
    b"SCRIPT": (SimulatedRedis._script, 1, None),
    b"EVAL": (SimulatedRedis._eval, 2, None),
    b"EVALSHA": (SimulatedRedis._evalsha, 2, None),
    b"INFO": (SimulatedRedis._info, 0, None),
    b"CONFIG": (SimulatedRedis._config, 1, None),
}
"""The commands, with the least and the greatest number of their arguments."""

_OK = b"+OK\r\n"
_WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled."
_NOTHING_TO_CHECK = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
_NOAUTH_HELLO = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
)
_BAD_NAME = "ERR Client names cannot contain spaces, newlines or special characters."
_NOT_A_VERSION = "Protocol version is not an integer or out of range"


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _value(value: Any) -> bytes:
    if value is None:
        return b"_\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return _bulk(value)
    return b"*%d\r\n" % len(value) + b"".join([_value(each) for each in value])


def _error(text: str) -> bytes:
    return b"-%b\r\n" % text.encode()


class _MalformedRequest(Exception):
    """A client sent bytes that are not a command. The argument is the error text of a real server."""


class _Requests:
    """The commands of one connection: arrays of bulk strings, or lines of words."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def waiting(self) -> int:
        """The number of bytes of the incomplete command at the end."""
        return len(self._buffer)

    def __iter__(self) -> Iterator[list[bytes]]:
        """Yield the complete commands, and keep the rest."""
        start = 0
        try:
            while (found := self._command(start)) is not None:
                command, start = found
                if command:
                    yield command
        finally:
            del self._buffer[:start]

    def _command(self, start: int) -> tuple[list[bytes], int] | None:
        """Return the command at an index, and the index after it; None if the command is not complete."""
        line = self._line(start)
        if line is None:
            return None
        text, start = line
        if not text.startswith(b"*"):
            return text.split(), start
        count = _number(text[1:], _MAX_ARGUMENTS, "invalid multibulk length")
        command = []
        for _ in range(count):
            line = self._line(start)
            if line is None:
                return None
            text, start = line
            if not text.startswith(b"$"):
                shown = text[:1].decode(errors="replace")
                raise _MalformedRequest(f"expected '$', got '{shown}'")
            size = _number(text[1:], _MAX_BYTES, "invalid bulk length")
            if len(self._buffer) < start + size + 2:
                return None
            command.append(bytes(self._buffer[start : start + size]))
            start += size + 2
        return command, start

    def _line(self, start: int) -> tuple[bytes, int] | None:
        end = self._buffer.find(b"\r\n", start)
        return None if end < 0 else (bytes(self._buffer[start:end]), end + 2)


def _number(text: bytes, most: int, problem: str) -> int:
    if not text.isdigit() or int(text) > most:
        raise _MalformedRequest(problem)
    return int(text)
