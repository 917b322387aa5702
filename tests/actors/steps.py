"""Counts of task steps, the measure of cost tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Steps(trio.abc.Instrument):
    """Counts the steps of one task, or of all tasks."""

    def __init__(self, task: trio.lowlevel.Task | None = None) -> None:
        self.task = task
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.task is None or task is self.task:
            self.count += 1


@contextmanager
def counted(task: trio.lowlevel.Task | None = None) -> Iterator[Steps]:
    """Count the steps of `task` in the body; None counts the steps of all tasks."""
    steps = Steps(task)
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)
