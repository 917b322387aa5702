"""Bugs in sessions, channels, transports, wire formats, long polling, endpoints and tokens."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant

__all__ = ["IN_CONNECTIONS"]

_CONNECTION = ("tests/channels/connection", "tests/channels", "tests/properties/test_session.py")
_WIRE = ("tests/channels/serializers", "tests/channels/wire", "tests/conformance")

IN_CONNECTIONS = (
    # Sessions
    Mutant(
        name="a leave of an earlier membership ends the later one",
        file="channels/protocol/session.py",
        old="""\
            if join_ref != membership.join_ref:
                return []
        elif join_ref is not None""",
        new="""\
            if join_ref != membership.join_ref and event != "phx_leave":
                return []
        elif join_ref is not None""",
        promise="Session.receive: a message with the join_ref of an earlier join has no effects",
        seen="A client that leaves and joins again quickly loses the new membership.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a join right after a phx_close brings a second phx_close",
        file="channels/protocol/session.py",
        old="""\
        closes = old.take_closes()
        if old.ended:
            old.status = "gone"
""",
        new="""\
        closes = old.take_closes()
        if old.ended and old.status == "joining":
            old.status = "gone"
""",
        promise="Membership: phx_close is the last frame of a membership",
        seen="A client gets phx_close twice for one membership.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a crashed join loses the phx_close of the membership before it",
        file="channels/protocol/session.py",
        old="""\
        effects += [Send(frame) for frame in membership.take_closes()]
        return effects
""",
        new="""\
        return effects
""",
        promise="Membership.take_closes: the party that answers a join writes the phx_close frames",
        seen="The client never learns that its earlier membership has ended.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a join that finds no room in the pool is not answered",
        file="channels/connection/session_server.py",
        old="""\
            # joins again later.
            self._send_last_frames(membership)
""",
        new="""\
            # joins again later.
            self.session.refused(membership)
""",
        promise="Session.exited: a join without an answer gets `join crashed`",
        seen="The client waits for its join until its own timeout.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="the end of the slow channel does not make a paused connection read again",
        file="channels/connection/session_server.py",
        old="""\
            self._remove(membership)
        if self.paused:
            self._read_on()
        if membership is not None""",
        new="""\
            self._remove(membership)
        if membership is not None""",
        promise="docs/topics/limits.md: the server reads again when few messages wait",
        seen="A client whose flooded channel crashed gets no more answers, until the server closes the connection.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a new channel does not wait for a replaced one that is still joining",
        file="channels/connection/session_server.py",
        old="""\
            send_exit(replaced.process, DUPLICATE_JOIN)
        before.append(replaced.process)
""",
        new="""\
            send_exit(replaced.process, DUPLICATE_JOIN)
        if replaced.status != "superseded":
            before.append(replaced.process)
""",
        promise="docs/topics/limits.md: a replaced channel ends before the join of its successor begins",
        seen="Two channels of one client run `join` for one topic at the same time.",
        tests=_CONNECTION,
    ),
    # Channels
    Mutant(
        name="a long message keeps its connection from reading again",
        file="channels/connection/channel_server.py",
        old="        if membership.unload(message) > READ_ON_AT >= membership.waiting:\n",
        new="        if membership.unload(message) == READ_ON_AT + 1:\n",
        promise="docs/topics/limits.md: the server reads again when few messages wait",
        seen="A client that sends long messages gets no more answers, until the server closes the connection.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a channel that stops in handle_call sends no phx_close",
        file="channels/connection/channel_server.py",
        old="""\
        if type(result) is Stop:
            if is_normal_exit(result.reason):
                self._close()
        elif type(result) not in (Reply, NoReply):
            raise""",
        new="""\
        if type(result) not in (Reply, NoReply, Stop):
            raise""",
        promise="docs/reference/channel.md: a clean stop sends phx_close",
        seen="The client treats a clean stop as a crash, and joins again.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a task that is killed at the head of the work line stops all connections",
        file="channels/protocol/work_budget.py",
        old="""\
            self._line.popleft()
            self._call_next()
            raise
""",
        new="""\
            self._line.popleft()
            raise
""",
        promise="WorkBudget: work that finds no budget waits for a later turn",
        seen="After a busy client disconnects, no client of the endpoint gets an answer to a long message.",
        tests=_CONNECTION,
    ),
    # Wire formats
    Mutant(
        name="a binary push without data is malformed",
        file="channels/serializers/v2.py",
        old="    if event_end > len(data):\n",
        new="    if event_end >= len(data):\n",
        promise="V2: the data of a binary push follows the strings, and may be empty",
        seen="The server closes a client that pushes an empty ArrayBuffer.",
        tests=_WIRE,
    ),
    Mutant(
        name="a phx_error in V1 does not name its membership",
        file="channels/serializers/v1.py",
        old="""\
        return _write("push", topic, "phx_error", {"reason": "channel_crash"}, join_ref)
""",
        new="""\
        return _write("push", topic, "phx_error", {"reason": "channel_crash"})
""",
        promise="V1.encode_error: its ref is the join_ref of the join",
        seen="A V1 client cannot tell which of its memberships crashed.",
        tests=_WIRE,
    ),
    # Transports
    Mutant(
        name="a client that is behind but reads is closed as too slow",
        file="channels/transports/out_buffer.py",
        old="""\
            self.reserved -= count
            if self._max_bytes >= 0:
                self._spare += count
""",
        new="""\
            self.reserved -= count
""",
        promise="OutBuffer: max_bytes limits the bytes that wait",
        seen="The server closes a client that reads steadily after a total of max_buffered_bytes.",
        tests=("tests/channels/transports", "tests/contracts"),
    ),
    # Long polling
    Mutant(
        name="messages for a poll whose client has left are lost",
        file="channels/longpoll/session.py",
        old="""\
            self.poll = None
            if not reply(poll, messages):
                return
            seconds""",
        new="""\
            self.poll = None
            reply(poll, messages)
            seconds""",
        promise="LongPollSession: if the client of a poll has left, the next poll gets the messages",
        seen="A polling client with a bad connection misses messages.",
        tests=("tests/channels/longpoll",),
    ),
    Mutant(
        name="a confirmed poll drops the messages that came after it",
        file="channels/longpoll/session.py",
        old="                self.waiting.drop(self.handed_out)\n",
        new="                self.waiting.drop()\n",
        promise="Confirm: the session drops the messages of the reply",
        seen="A polling client of another node misses messages that came at that moment.",
        tests=("tests/channels/longpoll",),
    ),
    Mutant(
        name="a post overtakes messages that the session still holds",
        file="channels/longpoll/session.py",
        old="        if self.paused or self.held:\n",
        new="        if self.paused:\n",
        promise="LongPollSession: the messages of a client keep their order",
        seen="A slow channel handles the pushes of a polling client in the wrong order.",
        tests=("tests/channels/longpoll",),
    ),
    Mutant(
        name="a session does not learn that a poll through another node was given up",
        file="channels/longpoll/relay.py",
        old="""\
            served.confirm(delivered=False)
            served.scope.cancel()
""",
        new="""\
            served.scope.cancel()
""",
        promise="NotDelivered: the session keeps its messages",
        seen="The session ends, and the client starts again without its messages.",
        tests=("tests/channels/longpoll",),
    ),
    # Endpoints and tokens
    Mutant(
        name="a draining server refuses clients during the notice",
        file="channels/endpoint/drainer.py",
        old="""\
            if self.draining.notice and admission.accepting:
                await trio.sleep(self.draining.notice)
            admission.drain()
""",
        new="""\
            admission.drain()
            if self.draining.notice and admission.accepting:
                await trio.sleep(self.draining.notice)
""",
        promise="Draining: during the notice the endpoint still accepts clients",
        seen="Clients get 503 before the load balancer has noticed the failed probes.",
        tests=("tests/channels/endpoint",),
    ),
    Mutant(
        name="a token of the former secret is invalid",
        file="channels/tokens/token.py",
        old="    if not any(signed.is_by(key) for key in keys):\n",
        new="    if not signed.is_by(keys[0]):\n",
        promise="verify: `secret` may be a list with the secret that signed the token",
        seen="All users must log in again when the secret is replaced.",
        tests=("tests/channels/tokens",),
    ),
)
