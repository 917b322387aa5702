"""A model of a partition supervisor, written from its documentation."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from tests.simulation.sweeps.supervision.supervisor_model import Child, Manner, Model, Op, Options

__all__ = ["PartitionModel"]


class PartitionModel(Model):
    """A partition supervisor. Its children are the numbers from 0.

    Attributes:
        size: the number of partitions to which keys map.
    """

    def __init__(self, options: Options, manners: list[Manner]) -> None:
        super().__init__(options, manners)
        self.size = len(manners)
        self._manners = manners
        # The number of partitions that may run. It is larger than `size` while a resize starts partitions.
        self._wanted = len(manners)
        self._processes: dict[int, str] = {}

    def _act(self, number: int, op: Op) -> None:
        if op.verb == "resize" and self.ended is None and not 0 <= op.id <= len(self._manners):
            # The caller gets this error before it sends the request.
            self.answers[number] = (self.now, "InvalidOption")
        elif op.verb == "route":
            self.answers[number] = (self.now, self.routes())
        else:
            super()._act(number, op)

    def routes(self) -> Any:
        """Return the process for each key from 0. It is None for a process that does not run."""
        if self.ended is not None:
            return "no process"
        if self.size == 0:
            return "NoPartitions"
        living = self.living()
        processes = [self._processes.get(key % self.size) for key in range(self.size + 2)]
        return [process if process in living else None for process in processes]

    def _launch(self, child: Child) -> Generator[int, None, Any]:
        if child.id >= self._wanted:
            # A restart of the whole group does not start a partition that a resize has stopped.
            self._announce(child.id)
            self.edges.add("a restart left a partition out that a resize had stopped")
            return "ignore"
        failed = yield from super()._launch(child)
        if failed is None:
            assert child.process is not None
            self._processes[child.id] = child.process
        return failed

    def _request(self, op: Op) -> Generator[int, None, Any]:
        if op.verb == "resize":
            return (yield from self._resize(op.id))
        return (yield from super()._request(op))

    def _resize(self, partitions: int) -> Generator[int, None, Any]:
        before = self.size
        self.size, self._wanted = min(before, partitions), partitions
        answer: Any = before
        for number in range(before - 1, partitions - 1, -1):
            child = self._children.get(number)
            if child is not None:
                yield from self._stop(child)
                if child.manner.restart == "temporary":
                    del self._children[number]
        for number in range(before, partitions):
            child = self._children.get(number) or Child(self._manners[number])
            failed = yield from self._start_on_request(child)
            if failed is not None:
                self.edges.add("a partition did not start in a resize")
                if failed != "ignore":
                    answer = self._started(child, failed)
                break
            self.size = number + 1
            self.edges.add("a partition supervisor grew")
        self._wanted = self.size
        return answer
