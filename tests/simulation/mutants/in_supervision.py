"""Bugs in supervisors, partitions, tasks, streams, applications and recordings."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant

__all__ = ["IN_SUPERVISION"]

_SUPERVISORS = ("tests/supervision", "tests/conformance/otp", "tests/conformance/otp_suites")
_TASKS = ("tests/supervision/tasks", "tests/conformance/elixir")

IN_SUPERVISION = (
    Mutant(
        name="a restart at the edge of the window does not count",
        file="supervision/strategy.py",
        old="        while attempts and now - attempts[0] > self.max_seconds:\n",
        new="        while attempts and now - attempts[0] >= self.max_seconds:\n",
        promise="RestartIntensity: an attempt counts while now - t <= max_seconds",
        seen="The supervisor restarts a child that crashes at a steady pace forever.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="auto_shutdown overlooks a significant child that waits for its restart",
        file="supervision/supervisor.py",
        old="            if other.pid is not None or other.retry is not None\n",
        new="            if other.pid is not None\n",
        promise='Supervisor: with "all_significant", it stops when the last significant child has ended',
        seen="A supervisor ends although one of its significant children is about to restart.",
        tests=_SUPERVISORS,
        found_by_tests=False,
    ),
    Mutant(
        name="a child that fails in a group restart makes the supervisor try the wrong child again",
        file="supervision/supervisor.py",
        old="                self._try_later(child, spec.id, started.reason)\n",
        new="                self._try_later(pivot, pivot.spec.id, started.reason)\n",
        promise="Supervisor: it repeats a failed restart, and each child runs only once",
        seen="A child runs twice after a sibling failed to start, and one copy is an orphan.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="restart_child starts a child that is about to restart",
        file="supervision/supervisor.py",
        old="""\
        child = self._find(id)
        if child.retry is not None:
            raise ChildRestarting(id)
        if child.pid is not None:
""",
        new="""\
        child = self._find(id)
        if child.pid is not None:
""",
        promise="Supervisor.restart_child: raises ChildRestarting",
        seen="The child runs twice, and delete_child forgets a child that then restarts.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a supervisor that cannot start leaves the earlier children to the link",
        file="supervision/supervisor.py",
        old="""\
            if failed is not None and not failed.ignored:
                await self.stop_all()
                return spec, failed
""",
        new="""\
            if failed is not None and not failed.ignored:
                return spec, failed
""",
        promise="Supervisor.start_link: stops the children before a failed one in reverse order",
        seen="The earlier children end at the same time, and only after the caller has got the error.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a group restart keeps the specs of its temporary children",
        file="supervision/supervisor.py",
        old="""\
        for child in plan.drop:
            del self._children[child.spec.id]
        return plan.start
""",
        new="""\
        return plan.start
""",
        promise="Supervisor: a group restart forgets the temporary children of the group",
        seen="which_children shows temporary children that never come back, and their ids stay taken.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a dynamic supervisor keeps a child that ignores its restart",
        file="supervision/dynamic_supervisor.py",
        old="""\
        elif started.ignored:
            del self._children[pid]
        else:
""",
        new="""\
        elif started.ignored:
            child.retry = None
        else:
""",
        promise="DynamicSupervisor: forgets a child whose init returned Ignore()",
        seen="Dead children fill max_children until the supervisor refuses every start.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a child that waits for its restart does not count for max_children",
        file="supervision/dynamic_supervisor.py",
        old="        if len(self._children) >= self._max_children:\n",
        new="""\
        running = sum(child.retry is None for child in self._children.values())
        if running >= self._max_children:
""",
        promise="DynamicSupervisor: max_children includes children that wait for a restart",
        seen="More children run than max_children allows.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a dynamic supervisor kills its slow children in the order of the longest limit",
        file="supervision/_children.py",
        old="    deadlines = sorted(limits, reverse=True)\n",
        new="    deadlines = sorted(limits)\n",
        promise="stop_together: each child stops within its own `shutdown`",
        seen="A child with a short limit lives as long as the child with the longest limit.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a transient child that ends with Shutdown(detail) counts as a failed stop",
        file="supervision/_children.py",
        old='    return restart != "permanent" and (reason is NORMAL or type(reason) is Shutdown)\n',
        new='    return restart != "permanent" and reason is NORMAL\n',
        promise="stopped_as_asked: a transient or temporary child may finish cleanly by itself",
        seen="The log reports a failed stop for a child that ended cleanly.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="the wait before a restart counts as a run of the child",
        file="supervision/backoff.py",
        old="        self._due = now + self._delay\n",
        new="        self._due = now\n",
        promise="Backoff: the waits grow up to `maximum` until the child has run for reset_after",
        seen="A child fails at once after the longest wait, and the supervisor restarts it after the shortest wait.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a resize takes the keys from a partition after it has stopped the partition",
        file="supervision/partitions.py",
        old="""\
        table.size = min(before, partitions)
        table.wanted = partitions
        try:
            for number in range(before - 1, partitions - 1, -1):
                try:
                    await self._stop_partition(number)
                except Exception:
                    # The partitions 0 to `number` still run, so assign keys to them again.
                    table.size = number + 1
                    raise
""",
        new="""\
        table.wanted = partitions
        try:
            for number in range(before - 1, partitions - 1, -1):
                await self._stop_partition(number)
                table.size = number
""",
        promise="PartitionSupervisor.resize: a call during a resize finds a running copy",
        seen="Calls fail with NoProcess while a partition stops.",
        tests=_SUPERVISORS,
    ),
    Mutant(
        name="a group restart starts one partition that a resize has stopped",
        file="supervision/partitions.py",
        old="    if number >= table.wanted:\n",
        new="    if number > table.wanted:\n",
        promise="PartitionSupervisor: only the partitions of the last resize run",
        seen="After a crash a stopped partition runs again, without any keys.",
        tests=_SUPERVISORS,
    ),
    # Tasks
    Mutant(
        name="a task sends its result to an owner that has discarded it",
        file="supervision/tasks/_process.py",
        old="""\
        assert ref is not None  # the owner monitors a task before it runs
        if is_awaited(current_pid(), ref):
            send(self.owner, TaskReply(ref, value))
""",
        new="""\
        assert ref is not None  # the owner monitors a task before it runs
        send(self.owner, TaskReply(ref, value))
""",
        promise="Task.forget, Task.ignore: a later result never reaches the mailbox",
        seen="A server gets TaskReply messages for tasks whose results it has discarded.",
        tests=_TASKS,
    ),
    Mutant(
        name="a cancelled wait for a task leaves its result in the mailbox",
        file="supervision/tasks/task.py",
        old="""\
        except trio.Cancelled:
            await give_up([self])
            raise
        return self._value(message)
""",
        new="""\
        return self._value(message)
""",
        promise="Task.result: a cancelled wait discards the result",
        seen="An owner that gave up with a cancel scope gets messages about the task later.",
        tests=_TASKS,
    ),
    Mutant(
        name="a stream loses an outcome when its consumer is cancelled",
        file="supervision/tasks/streams.py",
        old="""\
            if reply(sender, self.ready[0]):
                self.ready.popleft()
""",
        new="""\
            reply(sender, self.ready.popleft())
""",
        promise="async_stream: the consumer gets the outcome of every item",
        seen="A consumer with a time limit for each outcome misses some outcomes, and waits forever at the end.",
        tests=_TASKS,
        found_by_tests=False,
    ),
    # Applications
    Mutant(
        name="a failed start stops dependencies before the applications that need them",
        file="supervision/applications/applications.py",
        old="                for running in reversed(started):\n",
        new="                for running in started:\n",
        promise="Applications: an application stops before its dependencies",
        seen="While an application stops, its database has already stopped.",
        tests=("tests/supervision/applications",),
    ),
    # Recordings
    Mutant(
        name="a recording shows the secrets of a text that is JSON",
        file="supervision/recording/masking.py",
        old="""\
        return FILTERED if ("=" in value or ":" in value) and _is_secret(value, terms) else value
""",
        new="""\
        return FILTERED if "=" in value and _is_secret(value, terms) else value
""",
        promise="masking.mask: a term also masks a text that contains it together with `:`, such as JSON",
        seen="A password in a message that is a JSON text stands in capsules and recordings.",
        tests=("tests/supervision/recording",),
    ),
)
