"""The data of the diagrams: boxes with their positions, and the arrows between them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from docs.diagrams.drawing import Arrow, Box, Diagram, Frame, Item, Lifeline, Note

__all__ = ["DIAGRAMS", "FOLDER"]

FOLDER = Path(__file__).parents[1] / "images" / "diagrams"
"""The folder of the drawn diagrams."""


def layers() -> Diagram:
    """The packages, and the direction of their imports."""
    names = {
        "actors": ("actors", "processes, mailboxes,", "links, servers"),
        "supervision": ("supervision", "supervisors, simulation,", "chaos, recording"),
        "channels": ("channels", "endpoint, sockets,", "channels, presence"),
        "examples": ("examples", "programs that use", "all three"),
    }
    boxes = [
        Box(
            name=name,
            x=20 + 235 * number,
            y=50,
            width=195,
            height=74,
            text=text,
            kind="plain" if name == "examples" else "strong",
        )
        for number, (name, text) in enumerate(names.items())
    ]
    order = list(names)
    arrows = [Arrow(start=order[n + 1], end=order[n]) for n in range(3)]
    return Diagram(
        name="layers",
        title="Four packages in a row. Each imports only from packages to its left: "
        "actors, supervision, channels, examples",
        width=940,
        height=150,
        items=(
            Note(x=20, y=30, text="An arrow means: imports from. There is no arrow to the right."),
            *boxes,
            *arrows,
        ),
    )


def strategies() -> Diagram:
    """The children that each strategy restarts, if the second of three crashes."""
    panels = {
        "one_for_one": ("plain", "crashed", "plain"),
        "rest_for_one": ("plain", "crashed", "new"),
        "one_for_all": ("new", "crashed", "new"),
    }
    items: list[Item] = []
    for number, (strategy, kinds) in enumerate(panels.items()):
        left = 20 + 305 * number
        top = f"{strategy} supervisor"
        items += [
            Note(x=left + 135, y=30, text=f'"{strategy}"', anchor="middle", kind="title"),
            Box(name=top, x=left + 75, y=44, width=120, text=("supervisor",), kind="strong"),
        ]
        for place, kind in enumerate(kinds):
            child = f"{strategy} {place}"
            text = {"plain": "goes on", "crashed": "crashed", "new": "stopped"}[kind]
            items += [
                Box(
                    name=child,
                    x=left + 94 * place,
                    y=140,
                    width=82,
                    height=48,
                    text=(f"child {place + 1}", text),
                    kind=kind,
                ),
                Arrow(start=top, end=child, hot=kind == "crashed"),
            ]
        restarted = [str(place + 1) for place, kind in enumerate(kinds) if kind != "plain"]
        items.append(
            Note(
                x=left + 135,
                y=214,
                text=f"starts again: {', '.join(restarted)}",
                anchor="middle",
            )
        )
    return Diagram(
        name="strategies",
        title="Three supervisors with three children each. Child 2 crashes. one_for_one starts child 2 again, "
        "rest_for_one starts 2 and 3 again, one_for_all starts all three again",
        width=930,
        height=232,
        items=tuple(items),
    )


def link_and_monitor() -> Diagram:
    """The difference between a link and a monitor."""
    items: list[Item] = []
    for left, relation in ((20, "link"), (480, "monitor")):
        is_link = relation == "link"
        a, b = f"{relation} a", f"{relation} b"
        items += [
            Frame(
                x=left,
                y=16,
                width=430,
                height=214,
                title=f"{relation}: {'both ways' if is_link else 'one way'}",
            ),
            Box(name=a, x=left + 30, y=60, width=120, text=("process A",)),
            Box(name=b, x=left + 280, y=60, width=120, text=("process B",)),
            Arrow(start=a, end=b, both=is_link, label=relation, dashed=True),
            Box(
                name=f"{a} after",
                x=left + 30,
                y=150,
                width=120,
                height=48,
                text=("process A", "ends too" if is_link else "goes on"),
                kind="crashed" if is_link else "new",
            ),
            Box(
                name=f"{b} after",
                x=left + 280,
                y=150,
                width=120,
                height=48,
                text=("process B", "crashes"),
                kind="crashed",
            ),
            Arrow(
                start=f"{b} after",
                end=f"{a} after",
                hot=True,
                label="exit signal" if is_link else "Down message",
            ),
            Note(
                x=left + 30,
                y=220,
                text="A process that traps exits gets an Exit message instead."
                if is_link
                else "The crash of A would not affect B.",
            ),
        ]
    return Diagram(
        name="link-and-monitor",
        title="With a link, the crash of process B sends an exit signal, and process A ends too. "
        "With a monitor, process A gets a Down message and goes on",
        width=930,
        height=246,
        items=tuple(items),
    )


def _sequence(
    participants: Mapping[str, tuple[float, tuple[str, ...]]],
    bottom: float,
) -> list[Item]:
    """Return a box and a lifeline for each participant of a sequence diagram.

    Args:
        participants: the middle and the text of each box, by name.
        bottom: the lower end of the lifelines.
    """
    items: list[Item] = []
    for name, (x, text) in participants.items():
        items += [
            Box(name=name, x=x - 75, y=16, width=150, height=48, text=text),
            Lifeline(x=x, top=64, bottom=bottom),
        ]
    return items


def crash_and_rejoin() -> Diagram:
    """A client joins, its channel crashes, and it joins again."""
    browser, connection, channel, again, other = 95, 290, 485, 680, 860
    who = {
        "browser": (browser, ("browser", "phoenix.js")),
        "connection": (connection, ("connection", "process")),
        "channel": (channel, ("channel", "process 1")),
        "again": (again, ("channel", "process 2")),
        "other": (other, ("channel of", "another client")),
    }

    def arrow(y: float, start: float, end: float, label: str, *, hot: bool = False) -> Arrow:
        return Arrow(start=(start, y), end=(end, y), label=label, hot=hot)

    items: list[Item] = [
        *_sequence(who, 470),
        arrow(100, browser, connection, "phx_join"),
        arrow(128, connection, channel, "starts"),
        arrow(156, channel, browser, "reply ok"),
        arrow(192, browser, channel, "push"),
        Box(
            name="crash",
            x=channel - 75,
            y=206,
            width=150,
            height=32,
            text=("handler raises",),
            kind="crashed",
        ),
        arrow(262, channel, connection, "Down", hot=True),
        arrow(290, connection, browser, "phx_error", hot=True),
        Note(x=browser, y=324, text="waits 1 second", anchor="middle"),
        arrow(356, browser, connection, "phx_join"),
        arrow(384, connection, again, "starts, with new state"),
        arrow(412, again, browser, "reply ok"),
        arrow(448, browser, again, "push"),
        Box(name="life", x=other - 30, y=92, width=60, height=366, text=("goes", "on"), kind="new"),
    ]
    return Diagram(
        name="crash-and-rejoin",
        title="A browser joins and its channel process starts. A handler raises, the connection tells the browser "
        "phx_error, the browser waits a second and joins again, and a new channel process starts. "
        "The channel of another client goes on all the time",
        width=950,
        height=486,
        items=tuple(items),
    )


def message_path() -> Diagram:
    """The ten steps of a message from one client to all clients of its topic."""
    inward = (
        ("1", "poller or pump", "bytes"),
        ("2", "websocket codec", "frames"),
        ("3", "connection process", "data"),
        ("4", "session (pure)", "effects"),
        ("5", "channel process", "messages"),
    )
    outward = (
        ("10", "flusher or stream writer", "bytes"),
        ("9", "out-buffer of each client", "frames"),
        ("8", "fastlane: encode once", "frames"),
        ("7", "pubsub: find subscribers", "broadcast"),
    )
    items: list[Item] = [
        Box(name="client", x=60, y=16, width=250, text=("one client",), kind="strong"),
        Box(
            name="clients",
            x=500,
            y=16,
            width=250,
            text=("all clients of the topic",),
            kind="strong",
        ),
    ]
    before = "client"
    for row, (number, text, what) in enumerate(inward):
        items += [
            Box(name=number, x=60, y=100 + 76 * row, width=250, text=(f"{number}  {text}",)),
            Arrow(start=before, end=number, label=what, shift=(38, 12)),
        ]
        before = number
    before = "clients"
    for row, (number, text, what) in enumerate(outward):
        items += [
            Box(name=number, x=500, y=100 + 76 * row, width=250, text=(f"{number}  {text}",)),
            Arrow(start=number, end=before, label=what, shift=(44, 12)),
        ]
        before = number
    items += [
        Box(
            name="6",
            x=500,
            y=404,
            width=250,
            text=("6  method of your Channel",),
            kind="new",
        ),
        Arrow(start="5", end="6", label="calls", shift=(50, 0)),
        Arrow(start="6", end="7", label="broadcast", shift=(44, 12)),
        Arrow(
            start=(310, 412),
            end="9",
            via=((400, 412), (400, 198)),
            label="reply",
            shift=(-22, 100),
        ),
    ]
    return Diagram(
        name="message-path",
        title="A message goes from one client through poller, codec, connection, session and channel process to the "
        "method of a Channel. A broadcast goes from there through pubsub, fastlane, out-buffers and flusher "
        "to all clients of the topic. A reply goes from the channel process to the client's own out-buffer",
        width=810,
        height=466,
        items=tuple(items),
    )


def drain() -> Diagram:
    """The stop of one of two servers behind a load balancer."""
    manager, balancer, old, client, new = 95, 290, 485, 680, 875
    who = {
        "manager": (manager, ("service", "manager")),
        "balancer": (balancer, ("load", "balancer")),
        "old": (old, ("server 1,", "stops")),
        "client": (client, ("a client", "phoenix.js")),
        "new": (new, ("server 2,", "goes on")),
    }

    def arrow(y: float, start: float, end: float, label: str, *, hot: bool = False) -> Arrow:
        return Arrow(start=(start, y), end=(end, y), label=label, hot=hot)

    items: list[Item] = [
        *_sequence(who, 452),
        Arrow(start=(client, 96), end=(old, 96), label="WebSocket, open", both=True),
        arrow(128, manager, old, "SIGTERM", hot=True),
        arrow(160, balancer, old, "GET /health/ready"),
        arrow(188, old, balancer, "503"),
        Note(x=old + 12, y=216, text="notice: still serves"),
        Note(x=balancer, y=216, text="sends new clients to server 2", anchor="middle"),
        arrow(252, old, client, "close 1012, batch by batch", hot=True),
        arrow(286, client, new, "connects again"),
        arrow(314, client, new, "joins its topics again"),
        Note(x=old + 12, y=344, text="waits for the last batch"),
        Box(
            name="exit",
            x=old - 75,
            y=362,
            width=150,
            height=46,
            text=("stops its tree,", "in reverse order"),
            kind="crashed",
        ),
        arrow(436, old, manager, "exit code 0"),
    ]
    return Diagram(
        name="drain",
        title="A service manager sends SIGTERM to server 1. Its readiness probe answers 503, so the load balancer "
        "sends new clients to server 2. After the notice, server 1 closes its clients with 1012 in batches. "
        "They connect to server 2 and join again. Server 1 stops its tree and exits with 0",
        width=970,
        height=470,
        items=tuple(items),
    )


def topology() -> Diagram:
    """Two machines with workers, and a Redis server between them."""
    items: list[Item] = [
        Box(name="clients", x=340, y=16, width=230, text=("browsers, with phoenix.js",)),
        Box(name="proxy", x=340, y=96, width=230, text=("proxy, terminates TLS",)),
        Arrow(start="clients", end="proxy", both=True, label="wss", shift=(24, 12)),
        Box(
            name="redis",
            x=20,
            y=432,
            width=870,
            text=("Redis or Valkey: carries the broadcasts between all workers",),
            kind="strong",
        ),
        Box(
            name="publisher",
            x=310,
            y=512,
            width=290,
            text=("cron job or Django view: Publisher",),
        ),
        Arrow(start="publisher", end="redis"),
        Note(
            x=455,
            y=580,
            text="One machine needs no Redis: its workers then send the broadcasts to each other.",
            anchor="middle",
        ),
    ]
    for left, machine in ((20, "machine a"), (480, "machine b")):
        parent = f"{machine} parent"
        items += [
            Frame(x=left, y=176, width=410, height=212, title=machine),
            Arrow(
                start="proxy",
                end=(left + 205, 176),
                via=((left + 205, 118),),
                both=True,
                label="one port",
            ),
            Box(
                name=parent,
                x=left + 60,
                y=212,
                width=290,
                text=("parent: starts and replaces workers",),
            ),
        ]
        for number in range(3):
            worker, middle = f"{machine} {number}", left + 77 + 128 * number
            items += [
                Box(
                    name=worker,
                    x=middle - 57,
                    y=310,
                    width=114,
                    height=50,
                    text=(f"worker {number + 1}", "endpoint"),
                    kind="new",
                ),
                Arrow(start=parent, end=worker, dashed=True),
                Arrow(start=worker, end=(middle, 432), both=True),
            ]
    return Diagram(
        name="topology",
        title="Browsers reach a proxy. The proxy spreads them over two machines. On each machine, three workers "
        "share a port, and a parent starts and replaces them. "
        "A Redis server carries the broadcasts between all workers, and from other programs",
        width=910,
        height=598,
        items=tuple(items),
    )


def simulate_shrink_replay() -> Diagram:
    """The loop from a seed to a corrected program."""
    items = (
        Box(name="seeds", x=20, y=30, width=120, height=50, text=("seeds", "1 to 1000")),
        Box(
            name="simulate",
            x=200,
            y=30,
            width=170,
            height=50,
            text=("simulate", "one run per seed"),
            kind="strong",
        ),
        Box(
            name="failure",
            x=440,
            y=30,
            width=170,
            height=50,
            text=("a failure", "20 faults, 10 clients"),
            kind="crashed",
        ),
        Box(
            name="shrink",
            x=680,
            y=30,
            width=190,
            height=50,
            text=("shrink", "remove what it can"),
            kind="strong",
        ),
        Box(
            name="story",
            x=680,
            y=150,
            width=190,
            height=50,
            text=("story and run file", "1 fault, 1 client"),
            kind="crashed",
        ),
        Box(
            name="replay",
            x=440,
            y=150,
            width=170,
            height=50,
            text=("replay", "the same, to the byte"),
            kind="strong",
        ),
        Box(name="fix", x=200, y=150, width=170, height=50, text=("fix", "in your editor")),
        Box(
            name="passed",
            x=20,
            y=150,
            width=120,
            height=50,
            text=("all pass", "keep a test"),
            kind="new",
        ),
        Arrow(start="seeds", end="simulate"),
        Arrow(start="simulate", end="failure", hot=True),
        Arrow(start="failure", end="shrink"),
        Arrow(start="shrink", end="story"),
        Arrow(start="story", end="replay"),
        Arrow(start="replay", end="fix"),
        Arrow(start="fix", end="simulate", label="sweep again", shift=(46, 12)),
        Arrow(start="simulate", end="passed", via=((210, 116), (80, 116)), dashed=True),
    )
    return Diagram(
        name="simulate-shrink-replay",
        title="Seeds lead to runs. A failed run is shrunk to a small one, with a story and a run file. "
        "Replay repeats it, you fix the program, and sweep again until all seeds pass",
        width=890,
        height=224,
        items=items,
    )


def chaos_phases() -> Diagram:
    """The phases of an experiment on a live system."""
    left, right = 200, 900
    items: tuple[Item, ...] = (
        Box(
            name="before",
            x=left,
            y=22,
            width=170,
            height=50,
            text=("before", "no faults"),
            kind="new",
        ),
        Box(
            name="during",
            x=left + 180,
            y=22,
            width=290,
            height=50,
            text=("during", "the injector applies the plan"),
            kind="crashed",
        ),
        Box(
            name="after",
            x=left + 480,
            y=22,
            width=220,
            height=50,
            text=("after", "faults undone"),
            kind="new",
        ),
        Note(x=20, y=52, text="phase", kind="title"),
        Note(x=20, y=122, text="steady state", kind="title"),
        Note(x=left + 85, y=122, text="must hold", anchor="middle"),
        Note(x=left + 325, y=122, text="may break; every change is recorded", anchor="middle"),
        Note(x=left + 590, y=122, text="must hold again in time", anchor="middle"),
        Note(x=20, y=172, text="invariants", kind="title"),
        Arrow(start=(left, 168), end=(right, 168)),
        Note(x=left + 350, y=160, text="must hold all the time", anchor="middle"),
        Note(x=20, y=222, text="faults", kind="title"),
        *(
            Arrow(start=(left + x, 202), end=(left + x, 230), hot=True)
            for x in (215, 262, 318, 350, 421)
        ),
        Note(x=20, y=268, text="if it fails", kind="title"),
        Note(x=left + 85, y=268, text="no fault is applied", anchor="middle"),
        Note(x=left + 325, y=268, text="the report names the fault", anchor="middle"),
        Note(x=left + 590, y=268, text="not recovered", anchor="middle"),
    )
    return Diagram(
        name="chaos-phases",
        title="An experiment has three phases. Before: no faults, and the steady state must hold. "
        "During: the injector applies faults, and the steady state may break. "
        "After: the faults are undone, and the steady state must hold again. Invariants must hold all the time",
        width=920,
        height=288,
        items=items,
    )


DIAGRAMS = (
    layers(),
    strategies(),
    link_and_monitor(),
    crash_and_rejoin(),
    message_path(),
    drain(),
    topology(),
    simulate_shrink_replay(),
    chaos_phases(),
)
