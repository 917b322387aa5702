"""Faults that are done to a process at once, whatever it is doing."""

from __future__ import annotations

from contextvars import Context
from typing import Final

from actors.exits import KILL, NORMAL, SHUTDOWN, ExitReason
from actors.process import send
from actors.refs import Pid
from supervision.chaos.faults.kinds import ExitWith, FillMailbox, Kill
from supervision.chaos.injection.junk import Junk
from supervision.chaos.injection.ledger import Ledger, Planned
from supervision.chaos.injection.site import Spot

__all__ = ["do_to_process"]

REASONS: Final[dict[str, ExitReason]] = {"normal": NORMAL, "shutdown": SHUTDOWN, "kill": KILL}


def do_to_process(ledger: Ledger, planned: Planned, spot: Spot) -> None:
    """Kill a living process, send it a signal, or fill its mailbox."""
    fault, pid = planned.fault, spot.pid
    if spot.is_ending:
        ledger.masked(planned, spot, "the process was ending already")
        return
    if isinstance(fault, Kill):
        _signal(ledger, planned, spot, KILL)
    elif isinstance(fault, ExitWith):
        reason = REASONS.get(fault.reason, fault.reason)
        info = spot.site.runtime.process_info(pid)
        if reason is NORMAL and info is not None and not info["trap_exits"]:
            why = "it does not trap exits, and then a signal with NORMAL does nothing"
            ledger.masked(planned, spot, why)
            return
        _signal(ledger, planned, spot, reason)
    elif isinstance(fault, FillMailbox):
        ledger.applied(planned, spot)
        with ledger.because(planned, spot):
            # In a context of its own: it is nobody who sends, also where a process runs just now.
            Context().run(_fill, pid, fault.messages)


def _signal(ledger: Ledger, planned: Planned, spot: Spot, reason: ExitReason) -> None:
    ledger.applied(planned, spot)
    with ledger.because(planned, spot):
        runtime = spot.site.runtime
        # From a stranger: what comes from the runtime itself, roots of trees obey.
        runtime.signal(Pid(-1, runtime), spot.pid, reason, linked=False)


def _fill(pid: Pid, messages: int) -> None:
    for number in range(1, messages + 1):
        send(pid, Junk(number))
