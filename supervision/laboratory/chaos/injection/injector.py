"""The injector, which applies a fault plan in a simulation or on a live system.

    injector = Injector(runtime, Places(runtime))
    injector.start([Kill(target="/top/store", when=At(0.5))])
    await injector.finished()
    for report in injector.report():
        print(report)
    injector.close()

An injector is an instrument of the runtime with a timer task. Like an operator, a network or a bug, it sends signals,
loses messages and makes callbacks fail. The production code runs unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import trio

from actors.exits import ExitReason
from actors.instrumentation.instrument import Instrument
from actors.refs import Pid
from actors.runtime import Runtime
from actors.timers import TimerQueue
from supervision.laboratory.chaos.errors import InvalidFault
from supervision.laboratory.chaos.faults.kinds import (
    DiskFault,
    Fault,
    Hang,
    KillNode,
    MessageFault,
    ProcessFault,
    Raise,
    Slow,
    SwallowCancellation,
)
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.faults.plan import checked
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.laboratory.chaos.injection.ledger import Ledger, Planned
from supervision.laboratory.chaos.injection.messages import MessageFaults
from supervision.laboratory.chaos.injection.points import InjectionPoint, TargetRuntime, choose
from supervision.laboratory.chaos.injection.processes import CallbackFaults, apply_to_process
from supervision.laboratory.chaos.injection.surroundings import (
    Connections,
    NodeControl,
    Surroundings,
)
from supervision.recording.places import Places
from supervision.recording.recorder import Recorder
from supervision.recording.trace import Trace

__all__ = ["Injector"]

_TO_CALLBACKS = (Raise, Hang, Slow, SwallowCancellation)


class Injector:
    """A tool that applies a fault plan and reports the outcome of each fault. Create it within Trio.

        injector = Injector(runtime, places)

    Args:
        runtime: the runtime whose processes the faults target. With None, call `add` later.
        places: the places of the runtime's processes.
        trace: the trace for events of the kinds `fault`, `fault_over` and `heal`; None for no events.
        recorder: the recorder of the runtime. With one, the effects of a fault name the fault as their cause.
        connections: the network; None makes connection faults not applicable.
        nodes: the nodes; None makes faults of nodes not applicable.
        stall: blocks the event loop for some seconds; the default is `time.sleep`.
        checking: returns True if the current task is the scenario in its final check. No fault is applied while such a
            check waits for the answer to a call.

    No fault affects the reply to a call, because a reply goes directly to the caller and not through a mailbox.
    """

    def __init__(
        self,
        runtime: Runtime | None = None,
        places: Places | None = None,
        *,
        trace: Trace | None = None,
        recorder: Recorder | None = None,
        connections: Connections | None = None,
        nodes: NodeControl | None = None,
        stall: Callable[[float], None] = time.sleep,
        checking: Callable[[], bool] = lambda: False,
    ) -> None:
        self._checking = checking
        # The open calls of the scenario's final check. They are the keys.
        self._final_calls: dict[object, None] = {}
        self._began: float | None = None
        self._closed = False
        self._targets: list[TargetRuntime] = []
        self._detach: dict[TargetRuntime, Callable[[], None]] = {}
        self._waiters = trio.lowlevel.ParkingLot()
        self._ledger = Ledger(trace, self._seconds, self._something_changed)
        self._timers = TimerQueue()
        self._callbacks = CallbackFaults(self._ledger, self._something_changed)
        self._messages = MessageFaults(self._ledger, self._at)
        self._surroundings = Surroundings(
            self._ledger, self._at, connections, nodes, stall=stall, targets=self._targets
        )
        if runtime is not None:
            self.add(runtime, places or Places(runtime), recorder=recorder)

    # Runtimes

    def add(
        self,
        runtime: Runtime,
        places: Places,
        *,
        node: str = "",
        recorder: Recorder | None = None,
        observe: bool = True,
    ) -> None:
        """Add another runtime, so that faults can target its processes.

        Args:
            runtime: the runtime.
            places: the places of its processes.
            node: the name of its node. The paths of its processes begin with that name: `b/top/store`.
            recorder: its recorder, if it has one.
            observe: False adds no instrument to the runtime. The plan must then have no fault for which
                `needs_instrument` returns True.
        """
        target = TargetRuntime(runtime, places, recorder, node)
        self._targets.append(target)
        if observe:
            instrument = _FaultPoints(target, self._callbacks, self._messages, self._checking)
            instrument.final_calls = self._final_calls
            self._detach[target] = runtime.add_instrument(instrument)

    def remove(self, runtime: Runtime) -> None:
        """Stop targeting a runtime that is closed or about to close. Does nothing for a runtime that is not a target.

        Args:
            runtime: the runtime.
        """
        for target in [each for each in self._targets if each.runtime is runtime]:
            self._leave(target)
            self._callbacks.drop(target)
        self._something_changed()

    # The plan

    @property
    def plan(self) -> tuple[Fault, ...]:
        """The faults of the plan, in order."""
        return tuple(planned.fault for planned in self._ledger.planned)

    def start(self, plan: Sequence[Fault], *, since: float | None = None) -> None:
        """Start to apply a plan. The times of its faults count from now.

            injector.start([Kill(target="/top/store", when=At(0.5))])

        Args:
            plan: the faults.
            since: the time of `trio.current_time` from which the times count instead. The reports use it too.

        Raises:
            InvalidFault: the injector already has a plan, the injector is closed, or `plan` is not a plan.
        """
        if self._began is not None or self._closed:
            raise InvalidFault("Injector", "plan", tuple(plan), "make an Injector for each plan")
        self._ledger.planned = [Planned(fault) for fault in checked(plan)]
        self._began = trio.current_time() if since is None else since
        trio.lowlevel.spawn_system_task(self._timers.run, name="faults")
        for planned in self._ledger.planned:
            when = planned.fault.when
            if isinstance(when, At):
                self._at(self._began + when.seconds, partial(self._due, planned))
            else:
                self._wait_for(planned)

    def report(self) -> tuple[FaultReport, ...]:
        """Return the report of each fault so far, in the order of the plan.

        A fault whose moment has not come has the status "not_applicable", and its `why` says so.
        """
        return tuple(planned.report() for planned in self._ledger.planned)

    async def decided(self) -> None:
        """Wait until the outcome of each fault is known. Set a time limit, because a fault's moment may never come."""
        while any(planned.status is None for planned in self._ledger.planned):
            await self._waiters.park()

    async def finished(self) -> None:
        """Wait until all faults with a time are applied, and until all faults with a duration are over.

        The method ignores faults that wait for a callback or a message, because that callback or message may never
        come. It also ignores hung callbacks, because only `heal` ends them.
        """
        while self._timers or self._callbacks.held:
            await self._waiters.park()

    def heal(self) -> None:
        """Stop the plan, and undo every effect that lasts.

        Delayed callbacks continue, and delayed messages arrive. Held connections and partitions open again. Clocks go
        back to the right time. Killed nodes with a `reboot_after` boot now. Lost data stays lost, and dead processes
        stay dead.
        """
        if self._began is None:
            return
        self._ledger.note("heal")
        self._stop("the faults were healed before it was due", boot=True)

    def close(self) -> None:
        """Heal without booting nodes, and leave all runtimes. The report stays available."""
        if self._closed:
            return
        self._closed = True
        self._stop("the run was over before it was due", boot=False)
        self._ledger.record_inapplicable()
        for target in tuple(self._targets):
            self._leave(target)

    def _stop(self, why: str, *, boot: bool) -> None:
        # The timers stop for good, because a healed injector needs none.
        self._timers.stop()
        self._ledger.decide(why)
        self._messages.heal()
        self._callbacks.heal()
        self._surroundings.heal(boot=boot)
        self._something_changed()

    def use_nodes(self, nodes: NodeControl | None) -> None:
        """Apply the faults of nodes to other nodes from now on.

        Args:
            nodes: the nodes; None makes such faults not applicable.
        """
        self._surroundings.use_nodes(nodes)

    # Applying faults

    def on_disk(self, operation: str, address: str) -> list[DiskFault]:
        """Apply the faults of an operation of a disk, as `Surroundings.on_disk` does. A simulated disk calls this."""
        return [] if self._final_calls else self._surroundings.on_disk(operation, address)

    def _at(self, time: float, action: Callable[[], object]) -> None:
        """Call a function at a time of `trio.current_time`."""

        def act() -> None:
            action()
            self._something_changed()

        self._timers.at(time, act)

    def _leave(self, target: TargetRuntime) -> None:
        target.gone = True
        detach = self._detach.pop(target, None)
        if detach is not None:
            detach()
        self._targets.remove(target)

    def _seconds(self) -> float:
        return trio.current_time() - (self._began or 0.0)

    def _something_changed(self) -> None:
        self._waiters.unpark_all()

    def _wait_for(self, planned: Planned) -> None:
        planned.waits = True
        if isinstance(planned.fault, MessageFault):
            self._messages.add(planned)
        elif isinstance(planned.fault, DiskFault | KillNode):
            self._surroundings.wait(planned)
        else:
            self._callbacks.add(planned)

    def _due(self, planned: Planned) -> None:
        """Apply a fault whose time has come, or make the fault wait for its callback or message."""
        fault = planned.fault
        if self._final_calls:
            why = "the final check of the scenario waited for an answer at that time"
            self._ledger.missed(planned, why)
            return
        try:
            if isinstance(fault, (*_TO_CALLBACKS, MessageFault, DiskFault)):
                self._wait_for(planned)
            elif isinstance(fault, ProcessFault):
                self._apply_to_a_process(planned, fault)
            else:
                self._surroundings.do(planned)
        except Exception as error:  # an adapter's mistake must not stop the other faults
            self._ledger.failed(
                planned, f"it could not be applied: {type(error).__name__}: {error}"
            )

    def _apply_to_a_process(self, planned: Planned, fault: ProcessFault) -> None:
        found = [
            InjectionPoint(target, pid)
            for target in self._targets
            for pid in target.matching(fault.target)
        ]
        if not found:
            self._ledger.missed(planned, "there was no such process at that time")
            return
        apply_to_process(self._ledger, planned, choose(found, fault.pick))


class _FaultPoints(Instrument):
    """The instrument that passes the callbacks and messages of one runtime to the faults that wait for them."""

    def __init__(
        self,
        target: TargetRuntime,
        callbacks: CallbackFaults,
        messages: MessageFaults,
        checking: Callable[[], bool],
    ) -> None:
        self._target = target
        self.final_calls: dict[object, None] = {}
        self._checking = checking
        self._callbacks = callbacks
        self._messages = messages

    def callback_started(self, pid: Pid, callback: str, message: Any) -> Awaitable[None] | None:
        # Most plans have no fault that waits for a callback. For these plans, this check saves a call per callback.
        callbacks = self._callbacks
        if not callbacks.waiting or self.final_calls:
            return None
        return callbacks.started(self._target, pid, callback, message)

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool | None:
        messages = self._messages
        if (not messages.waiting and not messages.overtaken) or self.final_calls:
            return None
        return messages.sent(self._target, sender, receiver, message)

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        if caller is None and self._checking():
            self.final_calls[call] = None

    def call_ended(self, call: object, how: str) -> None:
        self.final_calls.pop(call, None)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._callbacks.forget(pid)
        self._messages.forget(pid)
