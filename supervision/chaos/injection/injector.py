"""Carrying out a plan of faults, in a simulation or on a live system.

    injector = Injector(runtime, Places(runtime))
    injector.start([Kill(target="/top/store", when=At(0.5))])
    await injector.finished()
    for report in injector.report():
        print(report)
    injector.close()

It is an instrument of the runtime and a task that keeps time. What it does, it does from outside, as an operator, a
network or a bug would: signals, messages that are lost, callbacks that fail. The code under test is the code that runs
in production, and knows of nothing.
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
from supervision.chaos.errors import BadFault
from supervision.chaos.faults.kinds import (
    Fault,
    Hang,
    MessageFault,
    ProcessFault,
    Raise,
    Slow,
    SwallowCancellation,
)
from supervision.chaos.faults.moments import At
from supervision.chaos.faults.plan import checked
from supervision.chaos.faults.report import FaultReport
from supervision.chaos.injection.ledger import Ledger, Planned
from supervision.chaos.injection.messages import MessageFaults
from supervision.chaos.injection.points import InjectionPoint, TargetRuntime, choose
from supervision.chaos.injection.processes import CallbackFaults, apply_to_process
from supervision.chaos.injection.surroundings import Connections, NodeControl, Surroundings
from supervision.recording.places import Places
from supervision.recording.recorder import Recorder
from supervision.recording.trace import Trace

__all__ = ["Injector"]

_TO_CALLBACKS = (Raise, Hang, Slow, SwallowCancellation)


class Injector:
    """Breaks what a plan says, and reports what became of each fault. Has to be made within Trio.

        injector = Injector(runtime, places)

    Args:
        runtime: whose processes faults are for; None if there is none yet, see `add`.
        places: where its processes are.
        trace: where events go, of the kinds `fault`, `fault_over` and `heal`; None writes none.
        recorder: that of the runtime, if it has one: the events in which a fault shows then have it as their cause.
        connections: the network that connection faults are for; without it they are not applicable.
        nodes: the nodes that can be killed; without them that is not applicable.
        stall: holds up the loop for so many seconds; by default it really does.

    Not guaranteed: that answers of calls can be broken. They are no messages, and go straight to who waits.
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
    ) -> None:
        self._began: float | None = None
        self._closed = False
        self._targets: list[TargetRuntime] = []
        self._detach: dict[TargetRuntime, Callable[[], None]] = {}
        self._waiters = trio.lowlevel.ParkingLot()
        self._ledger = Ledger(trace, self._seconds)
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
        self, runtime: Runtime, places: Places, *, node: str = "", recorder: Recorder | None = None
    ) -> None:
        """Reach the processes of another runtime, too.

        Args:
            runtime: the runtime.
            places: where its processes are.
            node: the name of the node that it is in, with which its paths begin then: `b/top/store`.
            recorder: that of the runtime, if it has one.
        """
        target = TargetRuntime(runtime, places, recorder, node)
        self._targets.append(target)
        instrument = _FaultPoints(target, self._callbacks, self._messages)
        self._detach[target] = runtime.add_instrument(instrument)

    def remove(self, runtime: Runtime) -> None:
        """Let go of a runtime, which is closed or will be."""
        for target in [each for each in self._targets if each.runtime is runtime]:
            self._leave(target)
            self._callbacks.drop(target)
        self._something_changed()

    # The plan

    @property
    def plan(self) -> tuple[Fault, ...]:
        """The faults that were started, in their order."""
        return tuple(planned.fault for planned in self._ledger.planned)

    def start(self, plan: Sequence[Fault]) -> None:
        """Begin to carry out a plan; its times count from now.

            injector.start([Kill(target="/top/store", when=At(0.5))])

        Raises:
            BadFault: there is a plan already: an injector carries out one; or it is no plan.
        """
        if self._began is not None or self._closed:
            raise BadFault("Injector", "plan", tuple(plan), "write one plan for each Injector")
        self._ledger.planned = [Planned(fault) for fault in checked(plan)]
        self._began = trio.current_time()
        trio.lowlevel.spawn_system_task(self._timers.run, name="faults")
        for planned in self._ledger.planned:
            when = planned.fault.when
            if isinstance(when, At):
                self._at(self._began + when.seconds, partial(self._due, planned))
            else:
                self._wait_for(planned)

    def report(self) -> tuple[FaultReport, ...]:
        """What has become of each fault so far, in the order of the plan.

        A fault whose moment has not come counts as not applicable, with that as the reason.
        """
        return tuple(planned.report(None) for planned in self._ledger.planned)

    async def finished(self) -> None:
        """Wait until all faults that have a time are done, and all those that last for a time are over.

        Faults that wait for a callback or a message are not waited for: nobody knows whether there will be one. Nor
        are hung callbacks, which only `heal` ends. So the wait takes no longer than the plan.
        """
        while self._timers or self._callbacks.held:
            await self._waiters.park()

    def heal(self) -> None:
        """Do nothing more, and undo what lasts.

        Callbacks that hang or are held up go on, messages that were held back arrive, held connections and partitions
        are open again, clocks are set right, nodes that were to be booted are. What is lost or dead stays so.
        """
        if self._began is None:
            return
        self._ledger.note("heal")
        self._undo_everything("the faults were healed before it was due", boot=True)

    def close(self) -> None:
        """Heal, but boot nothing, and take the injector off its runtimes. The report stays."""
        if self._closed:
            return
        self._closed = True
        self._undo_everything("the run was over before it was due", boot=False)
        self._ledger.record_inapplicable()
        for target in tuple(self._targets):
            self._leave(target)

    def _undo_everything(self, why: str, *, boot: bool) -> None:
        # Nothing is planned after this: a healed injector has nothing more to do.
        self._timers.stop()
        self._ledger.decide(why)
        self._messages.heal()
        self._callbacks.heal()
        self._surroundings.heal(boot=boot)
        self._something_changed()

    # Doing it

    def _at(self, time: float, action: Callable[[], object]) -> None:
        """Do something at a time of `trio.current_time`."""

        def act() -> None:
            action()
            self._something_changed()

        self._timers.at(time, act)

    def _leave(self, target: TargetRuntime) -> None:
        target.gone = True
        self._detach.pop(target)()
        self._targets.remove(target)

    def _seconds(self) -> float:
        return trio.current_time() - (self._began or 0.0)

    def _something_changed(self) -> None:
        self._waiters.unpark_all()

    def _wait_for(self, planned: Planned) -> None:
        planned.waits = True
        if isinstance(planned.fault, MessageFault):
            self._messages.add(planned)
        else:
            self._callbacks.add(planned)

    def _due(self, planned: Planned) -> None:
        """The time of a fault has come."""
        fault = planned.fault
        try:
            if isinstance(fault, (*_TO_CALLBACKS, MessageFault)):
                self._wait_for(planned)
            elif isinstance(fault, ProcessFault):
                self._do_to_a_process(planned, fault)
            else:
                self._surroundings.do(planned)
        except Exception as error:  # an adapter's mistake is what became of this fault, and no more
            self._ledger.failed(planned, f"it could not be done: {type(error).__name__}: {error}")

    def _do_to_a_process(self, planned: Planned, fault: ProcessFault) -> None:
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
    """The instrument that offers the callbacks and the messages of one runtime to the faults that wait for them."""

    def __init__(
        self, target: TargetRuntime, callbacks: CallbackFaults, messages: MessageFaults
    ) -> None:
        self._target = target
        self._callbacks = callbacks
        self._messages = messages

    def callback_started(self, pid: Pid, callback: str, message: Any) -> Awaitable[None] | None:
        return self._callbacks.started(self._target, pid, callback, message)

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool | None:
        return self._messages.sent(self._target, sender, receiver, message)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._callbacks.forget(pid)
        self._messages.forget(pid)
