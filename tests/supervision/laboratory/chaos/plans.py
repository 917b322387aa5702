"""One fault of each kind, for tests that go through all of them."""

from supervision.laboratory.chaos.faults.kinds import (
    DelayMessage,
    DiskError,
    DrainNode,
    DropMessage,
    DuplicateMessage,
    ExitWith,
    Fault,
    FillMailbox,
    FlipBit,
    HalfOpen,
    Hang,
    HoldConnection,
    Kill,
    KillNode,
    LoseWrite,
    Partition,
    PauseNode,
    Raise,
    ReorderMessage,
    ResetConnection,
    SkewClock,
    Slow,
    SlowConnection,
    SlowDisk,
    StallLoop,
    SwallowCancellation,
)
from supervision.laboratory.chaos.faults.moments import At, On

STORE = "/top/store"

STORIES: dict[str, Fault] = {
    "kill /top/store at 0.5 s": Kill(target=STORE, when=At(0.5)),
    "end /top/store with 'bored' at 1 s": ExitWith(target=STORE, reason="bored", when=At(1)),
    "crash /top/store before its 3rd handle_call of join": Raise(
        target=STORE, when=On("handle_call", nth=3, kind="join")
    ),
    "hang /top/store before its first init as incarnation 2": Hang(
        target=STORE, when=On("init", incarnation=2)
    ),
    "slow /top/store down for 1.5 s at 2 s": Slow(target=STORE, seconds=1.5, when=At(2)),
    "keep /top/store from ending for 9 s before its first terminate": SwallowCancellation(
        target=STORE, seconds=9, when=On("terminate")
    ),
    "put 3 messages into the mailbox of /top/store at 1 s": FillMailbox(
        target=STORE, messages=3, when=At(1)
    ),
    "drop the first message to /top/store from 1 s on": DropMessage(target=STORE, when=At(1)),
    "delay number 2 of the casts of join to /top/store by 1 s": DelayMessage(
        target=STORE, kind="join", seconds=1, when=On("handle_cast", nth=2)
    ),
    "duplicate the first of the messages to /top/store": DuplicateMessage(
        target=STORE, when=On("message")
    ),
    "let the next message overtake the first x to /top/store from 1 s on": ReorderMessage(
        target=STORE, kind="x", when=At(1)
    ),
    "reset the connection * at 1 s": ResetConnection(when=At(1)),
    "hold the connection a->b* for 1 s at 1 s": HoldConnection(
        target="a->b*", seconds=1, when=At(1)
    ),
    "make the connection * 0.5 s slower for 2 s at 1 s": SlowConnection(
        seconds=2, latency=0.5, when=At(1)
    ),
    "leave the connection * half open at 1 s": HalfOpen(when=At(1)),
    "cut a off from b for 1 s at 1 s": Partition(one="a", other="b", seconds=1, when=At(1)),
    "cut a off from b, one way, for 1 s at 1 s": Partition(
        one="a", other="b", seconds=1, both=False, when=At(1)
    ),
    "kill the node a at 1 s": KillNode(node="a", when=At(1)),
    "kill the node a, to reboot 2 s later, at 1 s": KillNode(node="a", reboot_after=2, when=At(1)),
    "cut the power of the node a at 1 s": KillNode(node="a", power=True, when=At(1)),
    "cut the power of the node a, to reboot 2 s later, before its 3rd fsync of journal": KillNode(
        node="a", power=True, reboot_after=2, when=On("fsync", nth=3, kind="journal")
    ),
    "fail a/* with ENOSPC at 1 s": DiskError(target="a/*", error="ENOSPC", when=At(1)),
    "make * 0.5 s slower for 2 s at 1 s": SlowDisk(seconds=2, latency=0.5, when=At(1)),
    "lose a write to /journal before its first write": LoseWrite(
        target="/journal", when=On("write")
    ),
    "flip a bit of * before its first read": FlipBit(when=On("read")),
    "pause the node a for 2 s at 1 s": PauseNode(node="a", seconds=2, when=At(1)),
    "drain the node a at 1 s": DrainNode(node="a", when=At(1)),
    "put the clock of a back by 3 s at 1 s": SkewClock(seconds=-3, node="a", when=At(1)),
    "stall the loop for 1 s at 1 s": StallLoop(seconds=1, when=At(1)),
}
