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
        module="channels.protocol.session",
        function="Session._pass_on",
        shape="J != M.join_ref",
        replacement='J != M.join_ref and message.event != "phx_leave"',
        promise="Session.receive: a message with the join_ref of an earlier join has no effects",
        seen="A client that leaves and joins again quickly loses the new membership.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="the end of a channel that the client has left frees the topic of its next channel",
        module="channels.protocol.session",
        function="Session.exited",
        shape="self._memberships.get(T) is not M",
        replacement="T not in self._memberships",
        promise="Session.exited: returns None if the client has joined again after the last frame",
        seen="A client that leaves and joins again gets `unmatched topic` as soon as the old `terminate` returns.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a crashed join loses the phx_close of the membership before it",
        module="channels.protocol.session",
        function="Session.exited",
        shape="M.refuse(self.owner.send_frame, self._crashed_join(M))",
        replacement="self.owner.send_frame(self._crashed_join(M))",
        promise="Membership: the phx_close of the replaced membership follows the answer to the join",
        seen="The client never learns that its earlier membership has ended.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a join that finds no room in the pool is not answered",
        module="channels.connection.session_server",
        function="SessionServer._finish_starts",
        shape="self.session.exited(S.membership)",
        replacement="S.membership.end()",
        promise="Session.exited: a join without an answer gets `join crashed`",
        seen="The client waits for its join until its own timeout.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="the end of the slow channel does not make a paused connection read again",
        module="channels.connection.session_server",
        function="SessionServer._channel_ended",
        shape="""\
if self.paused:
    ...
""",
        replacement="",
        promise="docs/topics/limits.md: the server reads again when few messages wait",
        seen="A client whose flooded channel crashed gets no more answers, until the server closes the connection.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a joining channel that is replaced is stopped before its answer",
        module="channels.connection.session_server",
        function="SessionServer.stop_channel",
        shape="""\
if M.status != "joining":
    AA
""",
        replacement="""\
if M.status:
    AA
""",
        promise="Session: a joining channel answers its join first, and then it stops",
        seen="A client that joins twice gets `join crashed` for a join that succeeds in Phoenix.",
        tests=_CONNECTION,
    ),
    # Channels
    Mutant(
        name="a long message keeps its connection from reading again",
        module="channels.connection.channel_server",
        function="ChannelServer._unload",
        shape="B > READ_ON_AT >= T.waiting",
        replacement="B == READ_ON_AT + 1",
        promise="docs/topics/limits.md: the server reads again when few messages wait",
        seen="A client that sends long messages gets no more answers, until the server closes the connection.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a channel that stops in handle_call sends no phx_close",
        module="channels.connection.channel_server",
        function="ChannelServer.handle_call",
        shape="""\
if type(R) is Stop:
    ...
elif type(R) not in (Reply, NoReply):
    AA
""",
        replacement="""\
if type(R) not in (Reply, NoReply, Stop):
    AA
""",
        promise="docs/reference/channel.md: a clean stop sends phx_close",
        seen="The client treats a clean stop as a crash, and joins again.",
        tests=_CONNECTION,
    ),
    Mutant(
        name="a task that is killed at the head of the work line stops all connections",
        module="channels.protocol.work_budget",
        function="WorkBudget._lead",
        shape="self._call_next()",
        replacement="",
        promise="WorkBudget: work that finds no budget waits for a later turn",
        seen="After a busy client disconnects, no client of the endpoint gets an answer to a long message.",
        tests=_CONNECTION,
    ),
    # Wire formats
    Mutant(
        name="a binary push without data is malformed",
        module="channels.serializers.v2",
        function="_unpack",
        shape="E > len(D)",
        replacement="E >= len(D)",
        promise="V2: the data of a binary push follows the strings, and may be empty",
        seen="The server closes a client that pushes an empty ArrayBuffer.",
        tests=_WIRE,
    ),
    Mutant(
        name="a phx_error in V1 does not name its membership",
        module="channels.serializers.v1",
        function="V1.encode_error",
        shape="_write(AA, join_ref)",
        replacement="_write(AA)",
        promise="V1.encode_error: its ref is the join_ref of the join",
        seen="A V1 client cannot tell which of its memberships crashed.",
        tests=_WIRE,
    ),
    # Transports
    Mutant(
        name="a client that is behind but reads is closed as too slow",
        module="channels.transports.out_buffer",
        function="OutBuffer.progress",
        shape="self._spare += C",
        replacement="",
        promise="OutBuffer: max_bytes limits the bytes that wait",
        seen="The server closes a client that reads steadily after a total of max_buffered_bytes.",
        tests=("tests/channels/transports", "tests/contracts"),
    ),
    # Long polling
    Mutant(
        name="messages for a poll whose client has left are lost",
        module="channels.longpoll.session",
        function="LongPollSession._hand_out",
        shape="""\
if not reply(P, M):
    ...
""",
        replacement="reply(P, M)",
        promise="LongPollSession: if the client of a poll has left, the next poll gets the messages",
        seen="A polling client with a bad connection misses messages.",
        tests=("tests/channels/longpoll",),
    ),
    Mutant(
        name="a confirmed poll drops the messages that came after it",
        module="channels.longpoll.session",
        function="LongPollSession._confirmed",
        shape="self.waiting.drop(H)",
        replacement="self.waiting.drop()",
        promise="Confirm: the session drops the messages of the reply",
        seen="A polling client of another node misses messages that came at that moment.",
        tests=("tests/channels/longpoll",),
    ),
    Mutant(
        name="a post overtakes messages that the session still holds",
        module="channels.longpoll.session",
        function="LongPollSession._receive",
        shape="self.paused or ...",
        replacement="self.paused",
        promise="LongPollSession: the messages of a client keep their order",
        seen="A slow channel handles the pushes of a polling client in the wrong order.",
        tests=("tests/channels/longpoll",),
    ),
    Mutant(
        name="a session does not learn that a poll through another node was given up",
        module="channels.longpoll.relay",
        function="Relay._take",
        shape="S.confirm(delivered=False)",
        replacement="",
        promise="NotDelivered: the session keeps its messages",
        seen="The session ends, and the client starts again without its messages.",
        tests=("tests/channels/longpoll",),
    ),
    # Endpoints and tokens
    Mutant(
        name="a draining server refuses clients during the notice",
        module="channels.endpoint.drainer",
        function="DrainerServer.terminate",
        shape="""\
if self.draining.notice and C:
    AA
BB
A.drain()
""",
        replacement="""\
A.drain()
if self.draining.notice and C:
    AA
BB
""",
        promise="Draining: during the notice the endpoint still accepts clients",
        seen="Clients get 503 before the load balancer has noticed the failed probes.",
        tests=("tests/channels/endpoint",),
    ),
    Mutant(
        name="a token of the former secret is invalid",
        module="channels.tokens.token",
        function="verify_with_lifetime",
        shape="any(S.is_by(K) for K in L)",
        replacement="S.is_by(L[0])",
        promise="verify: `secret` may be a list with the secret that signed the token",
        seen="All users must log in again when the secret is replaced.",
        tests=("tests/channels/tokens",),
    ),
)
