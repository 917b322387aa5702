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
from collections.abc import Callable, Sequence
from functools import partial

import trio

from actors.runtime import Runtime
from supervision.chaos.errors import BadFault
from supervision.chaos.faults.kinds import (
    Crash,
    Fault,
    Hang,
    Slow,
    SwallowCancellation,
)
from supervision.chaos.faults.moments import At
from supervision.chaos.faults.plan import checked
from supervision.chaos.faults.report import FaultReport
from supervision.chaos.faults.targets import MessageFault, ProcessFault
from supervision.chaos.injection.agenda import Agenda
from supervision.chaos.injection.callbacks import CallbackFaults
from supervision.chaos.injection.ledger import Ledger, Planned
from supervision.chaos.injection.messages import MessageFaults
from supervision.chaos.injection.processes import do_to_process
from supervision.chaos.injection.seams import Connections, NodeControl
from supervision.chaos.injection.site import Site, Spot, choose
from supervision.chaos.injection.surroundings import Surroundings
from supervision.recording.places import Places
from supervision.recording.recorder import Recorder
from supervision.recording.trace import Trace

__all__ = ["Injector"]

_TO_CALLBACKS = (Crash, Hang, Slow, SwallowCancellation)


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
        self._sites: list[Site] = []
        self._waiters = trio.lowlevel.ParkingLot()
        self._ledger = Ledger(trace, self._seconds)
        self._agenda = Agenda(self._something_changed)
        self._callbacks = CallbackFaults(self._ledger, self._something_changed)
        self._messages = MessageFaults(self._ledger, self._agenda)
        self._surroundings = Surroundings(
            self._ledger, self._agenda, connections, nodes, stall=stall, sites=self._sites
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
        site = Site(
            runtime,
            places,
            recorder,
            node=node,
            callbacks=self._callbacks,
            messages=self._messages,
        )
        self._sites.append(site)

    def remove(self, runtime: Runtime) -> None:
        """Let go of a runtime, which is closed or will be."""
        for site in [each for each in self._sites if each.runtime is runtime]:
            site.remove()
            self._sites.remove(site)
            self._callbacks.drop(site)
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
        self._agenda.start()
        for planned in self._ledger.planned:
            when = planned.fault.when
            if isinstance(when, At):
                self._agenda.at(self._began + when.seconds, partial(self._due, planned))
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
        while self._agenda or self._callbacks.held:
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
        self._ledger.tell_what_was_not()
        self._agenda.stop()
        for site in self._sites:
            site.remove()
        self._sites.clear()

    def _undo_everything(self, why: str, *, boot: bool) -> None:
        self._agenda.clear()
        self._ledger.decide(why)
        self._messages.heal()
        self._callbacks.heal()
        self._surroundings.heal(boot=boot)
        self._something_changed()

    # Doing it

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
        found = [Spot(site, pid) for site in self._sites for pid in site.matching(fault.target)]
        if not found:
            self._ledger.missed(planned, "there was no such process at that time")
            return
        do_to_process(self._ledger, planned, choose(found, fault.pick))
