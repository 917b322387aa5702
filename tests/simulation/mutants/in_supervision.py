"""Bugs in supervisors, partitions, tasks, streams, applications and recordings."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant

__all__ = ["IN_SUPERVISION"]

_SUPERVISORS = ("tests/supervision", "tests/conformance/otp", "tests/conformance/otp_suites")
_TASKS = ("tests/supervision/tasks", "tests/conformance/elixir")

IN_SUPERVISION = (
    Mutant(
        name="a restart at the edge of the window does not count",
        module="supervision.strategy",
        function="RestartIntensity.admit",
        shape="N - A > self.max_seconds",
        replacement="N - A >= self.max_seconds",
        promise="RestartIntensity: an attempt counts while now - t <= max_seconds",
        seen="The supervisor restarts a child that crashes at a steady pace forever.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="auto_shutdown overlooks a significant child that waits for its restart",
        module="supervision.supervisor",
        function="Tree.ended",
        shape="O.pid is not None or O.retry is not None",
        replacement="O.pid is not None",
        promise='Supervisor: with "all_significant", it stops when the last significant child has ended',
        seen="A supervisor ends although one of its significant children is about to restart.",
        tests=_SUPERVISORS,
        found_by_tests=False,
    ),
    Mutant(
        name="a child that fails in a group restart makes the supervisor try the wrong child again",
        module="supervision.supervisor",
        function="Tree._restart",
        shape="self._try_later(C, I, R)",
        replacement="self._try_later(pivot, pivot.spec.id, R)",
        promise="Supervisor: it repeats a failed restart, and each child runs only once",
        seen="A child runs twice after a sibling failed to start, and one copy is an orphan.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="restart_child starts a child that is about to restart",
        module="supervision.supervisor",
        function="Tree._find_stopped",
        shape="""\
if C.retry is not None:
    ...
""",
        replacement="",
        promise="Supervisor.restart_child: raises ChildRestarting",
        seen="The child runs twice, and delete_child forgets a child that then restarts.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a supervisor that cannot start leaves the earlier children to the link",
        module="supervision.supervisor",
        function="Tree.boot",
        shape="await self.stop_all()",
        replacement="",
        promise="Supervisor.start_link: stops the children before a failed one in reverse order",
        seen="The earlier children end at the same time, and only after the caller has got the error.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a group restart keeps the specs of its temporary children",
        module="supervision.supervisor",
        function="Tree._stop_group",
        shape="""\
for C in P.drop:
    ...
""",
        replacement="",
        promise="Supervisor: a group restart forgets the temporary children of the group",
        seen="which_children shows temporary children that never come back, and their ids stay taken.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a dynamic supervisor keeps a child that ignores its restart",
        module="supervision.dynamic_supervisor",
        function="Pool._restart",
        shape="""\
if S.ignored:
    D
else:
    AA
""",
        replacement="""\
if S.ignored:
    child.retry = None
else:
    AA
""",
        promise="DynamicSupervisor: forgets a child whose init returned Ignore()",
        seen="Dead children fill max_children until the supervisor refuses every start.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a child that waits for its restart does not count for max_children",
        module="supervision.dynamic_supervisor",
        function="Pool.start_child",
        shape="len(C) >= self._max_children",
        replacement="sum(child.retry is None for child in C.values()) >= self._max_children",
        promise="DynamicSupervisor: max_children includes children that wait for a restart",
        seen="More children run than max_children allows.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a dynamic supervisor kills its slow children in the order of the longest limit",
        module="supervision._children",
        function="stop_together",
        shape="sorted(L, reverse=True)",
        replacement="sorted(L)",
        promise="stop_together: each child stops within its own `shutdown`",
        seen="A child with a short limit lives as long as the child with the longest limit.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a transient child that ends with Shutdown(detail) counts as a failed stop",
        module="supervision._children",
        function="stopped_as_asked",
        shape="R is NORMAL or ...",
        replacement="R is NORMAL",
        promise="stopped_as_asked: a transient or temporary child may finish cleanly by itself",
        seen="The log reports a failed stop for a child that ended cleanly.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="the wait before a restart counts as a run of the child",
        module="supervision.backoff",
        function="Delays.next",
        shape="self._due = N + D",
        replacement="self._due = N",
        promise="Backoff: the waits grow up to `maximum` until the child has run for reset_after",
        seen="A child fails at once after the longest wait, and the supervisor restarts it after the shortest wait.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a resize takes the keys from a partition after it has stopped the partition",
        module="supervision.partitions",
        function="PartitionSupervisor._resize",
        shape="""\
T.size = min(...)
AA
try:
    for N in R:
        try:
            S
        except Exception:
            ...
    BB
finally:
    CC
""",
        replacement="""\
AA
try:
    for N in R:
        S
        T.size = N
    BB
finally:
    CC
""",
        promise="PartitionSupervisor.resize: a call during a resize finds a running copy",
        seen="Calls fail with NoProcess while a partition stops.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a group restart starts one partition that a resize has stopped",
        module="supervision.partitions",
        function="_start_partition",
        shape="N >= T.wanted",
        replacement="N > T.wanted",
        promise="PartitionSupervisor: only the partitions of the last resize run",
        seen="After a crash a stopped partition runs again, without any keys.",
        tests=_SUPERVISORS,
    ),
    # Tasks
    Mutant(
        name="a task sends its result to an owner that has discarded it",
        module="supervision.tasks._process",
        function="Recipient.deliver",
        shape="""\
if is_awaited(...):
    AA
""",
        replacement="AA",
        promise="Task.forget, Task.ignore: a later result never reaches the mailbox",
        seen="A server gets TaskReply messages for tasks whose results it has discarded.",
        tests=_TASKS,
    ),
    Mutant(
        name="a cancelled wait for a task leaves its result in the mailbox",
        module="supervision.tasks.task",
        function="Task.result",
        shape="""\
try:
    AA
except trio.TooSlowError:
    BB
except trio.Cancelled:
    ...
""",
        replacement="""\
try:
    AA
except trio.TooSlowError:
    BB
""",
        promise="Task.result: a cancelled wait discards the result",
        seen="An owner that gave up with a cancel scope gets messages about the task later.",
        tests=_TASKS,
    ),
    Mutant(
        name="a stream loses an outcome when its consumer is cancelled",
        module="supervision.tasks.streams",
        function="StreamServer._answer",
        shape="""\
if reply(S, R[0]):
    ...
""",
        replacement="reply(S, R.popleft())",
        promise="async_stream: the consumer gets the outcome of every item",
        seen="A consumer with a time limit for each outcome misses some outcomes, and waits forever at the end.",
        tests=_TASKS,
        found_by_tests=False,
    ),
    # Applications
    Mutant(
        name="a failed start stops dependencies before the applications that need them",
        module="supervision.applications.applications",
        function="Applications._start_all",
        shape="reversed(R)",
        replacement="R",
        promise="Applications: an application stops before its dependencies",
        seen="While an application stops, its database has already stopped.",
        tests=("tests/supervision/applications",),
    ),
    # Recordings
    Mutant(
        name="a recording shows the secrets of a text that is JSON",
        module="actors.masking",
        function="tells_secret",
        shape='"=" in V or ":" in V',
        replacement='"=" in V',
        promise="masking.mask: a term also masks a text that contains it together with `:`, such as JSON",
        seen="A password in a message that is a JSON text stands in capsules and recordings.",
        tests=("tests/actors/test_masking.py", "tests/supervision/recording"),
    ),
)
