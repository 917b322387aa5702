"""Histories of operations, and checks of them: linearizable, sequential, exactly once, sessions, at most one owner.

history = OperationHistory()
with history.recording():
...
check_linearizable(history, Register()).require()
"""

from supervision.laboratory.histories.check import (
    NotExplained,
    Verdict,
    check_linearizable,
    check_sequential,
)
from supervision.laboratory.histories.guarantees import (
    check_exactly_once,
    check_one_owner,
    check_session,
)
from supervision.laboratory.histories.models import (
    Counter,
    Lock,
    Map,
    Model,
    Queue,
    Register,
    Set,
)
from supervision.laboratory.histories.operations import Fate, Operation
from supervision.laboratory.histories.picture import lanes
from supervision.laboratory.histories.reading import (
    IncompleteRecording,
    operations_in,
    read_operations,
)
from supervision.laboratory.histories.recorded import (
    ClientRequest,
    OpenOperation,
    OperationHistory,
    describe_request,
)

__all__ = [
    "ClientRequest",
    "Counter",
    "Fate",
    "IncompleteRecording",
    "Lock",
    "Map",
    "Model",
    "NotExplained",
    "OpenOperation",
    "Operation",
    "OperationHistory",
    "Queue",
    "Register",
    "Set",
    "Verdict",
    "check_exactly_once",
    "check_linearizable",
    "check_one_owner",
    "check_sequential",
    "check_session",
    "describe_request",
    "lanes",
    "operations_in",
    "read_operations",
]
