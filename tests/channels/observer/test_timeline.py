"""The timeline of an observer page: the page first gets the records of the ring, and then asks for the changes."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import Runtime, current_pid, current_runtime, kill, open_runtime, receive, send, spawn
from channels.observer.access import Access
from channels.observer.chronicle import Chronicle
from channels.observer.memory import Memory
from channels.observer.model import INTERNAL
from channels.observer.settings import Drawn, ObserverSettings, TimelinePart
from channels.observer.timeline import MESSAGES, follow_timeline
from supervision.recording.flight import FlightRecorder
from tests.channels.observer.pages import Observe, Page, enter
from tests.supervision.recording.reader.test_live import Viewer


class Timeline:
    """The timeline of a page. It takes the parts in the same way as the script in a browser."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.viewer = Viewer()

    async def next_part(self) -> dict[str, Any]:
        part: dict[str, Any] = await self.page.channel.assert_push("timeline", timeout=5)
        self.viewer.take(part)
        return part

    async def ask(self) -> dict[str, Any]:
        self.page.channel.push("timeline", {"drawn": True})
        return await self.next_part()

    def titles(self) -> list[str]:
        texts = self.viewer.texts
        return [texts[row[12]] for row in self.viewer.processes.values() if row[12] >= 0]


async def test_a_timeline_names_channels_by_class_and_topic_and_follows_them(
    observe: Observe,
) -> None:
    page = await observe(control=True)
    client, _, number = await enter(page.case)
    await page.until_row("RoomChannel 'room:lobby'")
    page.channel.push("timeline", {"on": True})
    timeline = Timeline(page)
    first = await timeline.next_part()
    assert first["first"]
    assert "RoomChannel room:lobby" in timeline.titles()
    before = len(timeline.viewer.processes)
    quiet = await timeline.ask()
    assert len(quiet["processes"]) <= 1  # the process of the timeline itself
    await page.ask("act", {"pid": number, "action": "kill"})
    await client.join("room:lobby")
    while timeline.titles().count("RoomChannel room:lobby") < 2:
        part = await timeline.ask()
        assert len(part["processes"]) < before
    (fault,) = timeline.viewer.faults.values()
    assert timeline.viewer.texts[fault[1]].startswith("kill RoomChannel 'room:lobby'")
    (killed,) = fault[5]
    assert timeline.viewer.processes[killed][10] == number


async def test_a_page_that_does_not_ask_gets_no_further_part(observe: Observe) -> None:
    page = await observe()
    page.channel.push("timeline", {"on": True})
    await page.channel.assert_push("timeline", timeout=5)
    for _ in range(5):
        await page.tick()
    await page.channel.refute_push("timeline")


async def test_a_timeline_without_a_recorder_names_the_option(observe: Observe) -> None:
    page = await observe(record=False)
    page.channel.push("timeline", {"on": True})
    part = await page.channel.assert_push("timeline", timeout=5)
    assert "Observer(record=True)" in part["problem"]


def settings_of(runtime: Runtime, *, payloads: bool = False) -> ObserverSettings:
    memory = Memory()
    return ObserverSettings(
        endpoint=None,
        access=Access(None, None),
        memory=memory,
        chronicle=Chronicle(memory, runtime),
        control=False,
        payloads=payloads,
        interval=0.5,
        max_pages=1,
        topic="",
        runtime=runtime,
    )


async def next_of(viewer: Viewer, timeline: Any) -> dict[str, Any]:
    send(timeline, Drawn())
    part: TimelinePart = await receive()
    viewer.take(part.fields)
    return dict(part.fields)


@pytest.mark.parametrize("payloads", [False, True])
async def test_a_recorder_with_contents_shows_them_only_with_payloads(
    autojump_clock: trio.testing.MockClock, payloads: bool
) -> None:
    texts = await in_a_process(lambda runtime: contents_seen(runtime, payloads))
    assert ("'secret'" in texts) == payloads


async def in_a_process(work: Any) -> Any:
    results: list[Any] = []
    done = trio.Event()
    async with open_runtime(log=False) as runtime:

        async def page() -> None:
            # Use no time limits, because a virtual clock does not wait for the thread of the timeline.
            try:
                results.append(await work(runtime))
            finally:
                done.set()

        spawn(page, label="page")
        await done.wait()
    return results[0]


async def contents_seen(runtime: Runtime, payloads: bool) -> list[str]:
    FlightRecorder(runtime, contents=True)
    idle = spawn(receive_all, name="idle")
    send(idle, "secret")
    viewer = Viewer()
    spawn(follow_timeline, current_pid(), settings_of(runtime, payloads=payloads))
    viewer.take((await receive()).fields)
    return viewer.texts


async def receive_all() -> None:
    while True:
        await receive()


async def test_a_busy_program_sends_a_bounded_number_of_messages_to_the_timeline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def flood(runtime: Runtime) -> int:
        FlightRecorder(runtime)
        idle = spawn(receive_all)
        timeline = spawn(follow_timeline, current_pid(), settings_of(runtime))
        viewer = Viewer()
        viewer.take((await receive()).fields)
        for _ in range(10 * MESSAGES):
            send(idle, "again")
        return len((await next_of(viewer, timeline))["messages"])

    assert 0 < await in_a_process(flood) <= MESSAGES


async def test_a_timeline_that_misses_events_begins_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def fall_behind(runtime: Runtime) -> tuple[dict[str, Any], list[str]]:
        FlightRecorder(runtime, max_events=10)
        spawn(receive_all, name="idle")
        timeline = spawn(follow_timeline, current_pid(), settings_of(runtime))
        await receive()
        for _ in range(30):
            spawn(trio.sleep, 0)
        await trio.sleep(1)
        viewer = Viewer()
        part = await next_of(viewer, timeline)
        return part, viewer.texts

    part, texts = await in_a_process(fall_behind)
    assert part["first"]
    # The new timeline also has a process that started before the oldest record.
    assert "/page/idle" in texts


async def test_the_page_gets_a_problem_and_can_begin_again_after_its_timeline_was_killed(
    observe: Observe,
) -> None:
    page = await observe()
    group = await page.until_row(INTERNAL)
    page.channel.push("view", {"open": [group["key"]]})
    row = await page.until_row("ObserverChannel 'observer'")
    page.channel.push("timeline", {"on": True})
    await page.channel.assert_push("timeline", timeout=5)
    timeline = (await page.until_row("observer timeline"))["pid"]
    kill(next(pid for pid in current_runtime().processes() if pid.number == timeline))
    part = await page.channel.assert_push("timeline", timeout=5)
    assert "Open the timeline again" in part["problem"]
    page.channel.push("timeline", {"on": True})
    assert (await Timeline(page).next_part())["first"]
    # The page itself goes on.
    assert row["key"] in page.rows


async def test_a_timeline_reports_that_its_recorder_has_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def close(runtime: Runtime) -> str:
        recorder = FlightRecorder(runtime)
        timeline = spawn(follow_timeline, current_pid(), settings_of(runtime))
        await receive()
        recorder.close()
        send(timeline, Drawn())
        part: TimelinePart = await receive()
        return str(part.fields.get("problem"))

    assert "has closed" in await in_a_process(close)


async def test_a_timeline_begins_anew_with_the_next_recorder(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def replace(runtime: Runtime) -> dict[str, Any]:
        recorder = FlightRecorder(runtime)
        timeline = spawn(follow_timeline, current_pid(), settings_of(runtime))
        await receive()
        recorder.close()
        FlightRecorder(runtime)
        return await next_of(Viewer(), timeline)

    assert (await in_a_process(replace))["first"]
