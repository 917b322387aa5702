"""A queue gives the same job to each new worker, and the job crashes every worker."""

from __future__ import annotations

from typing import Any

from actors import Continue, GenServer, Reply, Sender, call
from supervision import Supervisor, child_spec
from supervision.simulation import World, scenario

__all__ = ["a_morning_of_jobs"]

TEXTS = ("12.50", "3.20", "7.00", "4,80", "9.90")


class Jobs(GenServer[list[str]]):
    """The queue. A job stays in it until a worker reports it as done."""

    async def init(self, jobs: list[str]) -> None:
        self.state = jobs

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        match request:
            case "next":
                return Reply(self.state[0] if self.state else None)
            case ("done", _):
                del self.state[0]
                return Reply(len(self.state))
        raise ValueError(request)


class Worker(GenServer[float]):
    """A worker that adds up invoices. The bug: the worker does not remove an unreadable invoice from the queue."""

    async def init(self) -> Continue:
        self.state = 0.0
        return Continue("work")

    async def handle_continue(self, argument: Any) -> Continue | None:
        job = await call("jobs", "next")
        if job is None:
            return None
        self.state += float(job)
        await call("jobs", ("done", job))
        return Continue("work")


@scenario(params={"invoices": 8})
async def a_morning_of_jobs(world: World) -> None:
    """A worker handles all jobs."""
    stream = world.random("invoices")
    jobs = [stream.choice(TEXTS) for _ in range(world.params["invoices"])]
    queue = child_spec(Jobs, jobs, id="jobs", kwargs={"name": "jobs"})
    worker = child_spec(Worker, id="worker")
    await Supervisor.start_link([queue, worker], label="office", max_restarts=3)
    await world.eventually("all invoices are added up", lambda: not jobs, within=10)
