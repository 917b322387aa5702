"""Several applications: the order of starts and stops, and the effects of an end."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    CallTimeout,
    Fail,
    GenServer,
    InvalidArgument,
    Pid,
    Reply,
    Runtime,
    Shutdown,
    StartError,
    call,
    cast,
    current_pid,
    is_alive,
    kill,
    send,
    send_exit,
    spawn,
    spawn_link,
    stop,
    trap_exits,
    wait_exit,
    whereis,
)
from supervision import (
    ApplicationEnded,
    ApplicationFailed,
    ApplicationNotStarted,
    Applications,
    ApplicationSpec,
    ApplicationStartFailed,
    FailedToStartChild,
    Supervisor,
    SupervisorDeadlock,
    child_spec,
    logger,
    open_application,
)
from tests.actors.helpers import idle, settle
from tests.supervision.workers import Log, Outcomes, Worker, worker


def note(log: Log, what: str, name: str) -> Callable[[], Awaitable[None]]:
    async def write() -> None:
        log.append((what, name))

    return write


def spec(name: str, log: Log, *depends_on: ApplicationSpec, **options: Any) -> ApplicationSpec:
    """Return an application with one worker, `name`, that logs its starts and stops."""
    start = options.pop("start", None)
    outcomes = options.pop("outcomes", None)
    children = [child_spec(Worker, name, log, id=name, kwargs={"name": name, "outcomes": outcomes})]
    return ApplicationSpec(
        name=name,
        top=start or children,
        depends_on=depends_on,
        prep_stop=options.pop("prep_stop", note(log, "prep_stop", name)),
        stop=options.pop("stop", note(log, "over", name)),
        **options,
    )


def diamond(log: Log) -> list[ApplicationSpec]:
    store = spec("store", log)
    left, right = spec("left", log, store), spec("right", log, store)
    return [spec("web", log, left, right), store]


# Order


async def test_an_application_starts_after_its_dependencies_and_stops_before_them(
    runtime: Runtime, log: Log
) -> None:
    applications = await Applications.start(diamond(log))
    assert log.names("start") == "storeleftrightweb"
    names = await Applications.which_applications(applications)
    assert names == ["web", "right", "left", "store"]
    log.clear()
    await stop(applications)
    assert log.take() == [
        f"{what} {name}" for name in names for what in ("prep_stop", "stop", "over")
    ]
    assert runtime.processes() == []


async def test_a_program_of_applications_is_run_like_any_other(log: Log) -> None:
    async with open_application(
        lambda: Applications.start_link(diamond(log), name="applications")
    ) as program:
        assert await Applications.which_applications("applications") == [
            "web",
            "right",
            "left",
            "store",
        ]
        assert program.supervisor is whereis("applications")
    assert log.names("over") == "webrightleftstore"


async def test_ensure_all_started_starts_and_returns_what_is_missing(
    runtime: Runtime, log: Log
) -> None:
    web, store = diamond(log)
    applications = await Applications.start([store])
    assert await Applications.ensure_all_started(applications, web) == ["left", "right", "web"]
    assert await Applications.ensure_all_started(applications, web) == []
    assert log.names("start") == "storeleftrightweb"


async def test_an_application_starts_alone_only_if_its_dependencies_run(
    runtime: Runtime, log: Log
) -> None:
    store = spec("store", log)
    web = spec("web", log, store)
    applications = await Applications.start([])
    with pytest.raises(ApplicationNotStarted) as caught:
        await Applications.start_application(applications, web)
    assert (caught.value.dependent, caught.value.name) == ("web", "store")
    assert await Applications.start_application(applications, store) is True
    assert await Applications.start_application(applications, web) is True
    assert await Applications.start_application(applications, web) is False
    assert log.names("start") == "storeweb"


async def test_an_application_can_be_stopped_while_others_depend_on_it(
    runtime: Runtime, log: Log
) -> None:
    web, _ = diamond(log)
    applications = await Applications.start([web])
    log.clear()
    await Applications.stop_application(applications, "store")
    assert log.take() == ["prep_stop store", "stop store", "over store"]
    assert "store" not in await Applications.which_applications(applications)
    with pytest.raises(ApplicationNotStarted) as refused:
        await Applications.stop_application(applications, "store")
    assert refused.value.name == "store"
    assert await Applications.ensure_all_started(applications, web) == ["store"]


# Starts that fail


async def test_an_application_that_does_not_start_stops_those_before_it(
    runtime: Runtime, log: Log
) -> None:
    store = spec("store", log)
    cache = spec("cache", log, store)
    web = spec("web", log, cache, outcomes=Outcomes(Fail("no port")))
    later = spec("later", log, web)
    with pytest.raises(StartError) as caught:
        await Applications.start([later])
    inner = Shutdown(FailedToStartChild("web", "no port"))
    assert caught.value.reason == Shutdown(FailedToStartChild("web", inner))
    assert log.names("start") == "storecache"
    assert log.names("over") == "cachestore"
    assert runtime.processes() == []


async def test_a_start_that_fails_later_is_undone_and_leaves_the_others(
    runtime: Runtime, log: Log
) -> None:
    first, store = spec("first", log), spec("store", log)
    web = spec("web", log, first, store, outcomes=Outcomes(Fail("no port")))
    applications = await Applications.start([first])
    with pytest.raises(ApplicationStartFailed, match="child 'web' of 'web' failed: no port"):
        await Applications.ensure_all_started(applications, web)
    assert await Applications.which_applications(applications) == ["first"]
    assert log.names("over") == "store"
    assert await Applications.ensure_all_started(applications, web) == ["store", "web"]
    with pytest.raises(ApplicationStartFailed, match="ZeroDivisionError"):
        await Applications.start_application(applications, spec("bad", log, start=divides))
    assert await Applications.which_applications(applications) == ["web", "store", "first"]


async def divides() -> Pid:
    spawn(idle, name="left behind")
    raise ZeroDivisionError


async def test_nothing_of_a_failed_start_is_left(runtime: Runtime, log: Log) -> None:
    applications = await Applications.start([])
    with pytest.raises(ApplicationStartFailed):
        await Applications.start_application(applications, spec("bad", log, start=divides))
    assert whereis("left behind") is None
    assert runtime.processes() == [applications]


async def test_the_error_names_the_application_that_did_not_start(log: Log) -> None:
    web = spec("web", log, outcomes=Outcomes(Fail("no port")))
    with pytest.raises(
        ApplicationStartFailed, match="did not start: child 'web' of 'web' failed: no port"
    ):
        async with open_application(lambda: Applications.start_link([web])):
            pass


# Ends


@pytest.mark.parametrize("type", ["permanent", "transient"])
async def test_the_end_of_a_permanent_application_ends_the_program_in_order(
    log: Log, type: Any
) -> None:
    store = spec("store", log, type=type)
    web, other = spec("web", log, store), spec("other", log)
    with pytest.raises(ApplicationFailed, match="application 'store' ended: SHUTDOWN") as caught:
        async with open_application(
            lambda: Applications.start_link([web, other]), log=False
        ) as program:
            log.clear()
            for _ in range(4):
                await crash_of("store")
            await program.wait()
    assert caught.value.reason == ApplicationEnded("store", SHUTDOWN)
    # The whole application ends first. Then the others stop in the reverse order of their start.
    ends = [line for line in log.take() if line.split()[0] in ("over", "prep_stop")]
    assert ends == ["over store", "prep_stop other", "over other", "prep_stop web", "over web"]


async def crash_of(name: str) -> None:
    pid = whereis(name)
    assert pid is not None
    send_exit(pid, KILLED)
    kill(pid)
    await settle()


async def test_the_end_of_a_temporary_application_changes_nothing_else(
    runtime: Runtime, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    logger.attach(runtime.telemetry)
    metrics = spec("metrics", log, type="temporary")
    applications = await Applications.start([metrics])
    for _ in range(4):
        await crash_of("metrics")
    assert log.names("over") == "metrics"
    assert await Applications.which_applications(applications) == []
    assert "Application 'metrics' (temporary) ended: SHUTDOWN" in caplog.text
    assert await Applications.ensure_all_started(applications, metrics) == ["metrics"]


@pytest.mark.parametrize(("type", "survives"), [("transient", True), ("permanent", False)])
async def test_a_normal_end_ends_the_program_only_for_a_permanent_application(
    runtime: Runtime, log: Log, type: Any, survives: bool
) -> None:
    async def finishes() -> Pid:
        return spawn_link(trio.sleep, 1.0)

    applications = await Applications.start([spec("job", log, start=finishes, type=type)])
    if survives:
        await trio.sleep(2)
        assert await Applications.which_applications(applications) == []
    else:
        assert await wait_exit(applications) == ApplicationEnded("job", NORMAL)
    assert log.take() == ["over job"]


async def test_the_kill_of_a_master_is_the_end_of_its_application(
    runtime: Runtime, log: Log
) -> None:
    applications = await Applications.start([spec("web", log)])
    [master] = [
        pid
        for pid in runtime.processes()
        if (runtime.process_info(pid) or {})["label"] == "application web"
    ]
    kill(master)
    assert await wait_exit(applications) == ApplicationEnded("web", KILLED)


# Stragglers


async def test_every_process_of_an_application_ends_with_it(runtime: Runtime, log: Log) -> None:
    strays: list[Pid] = []

    async def stray(depth: int) -> None:
        strays.append(current_pid())
        trap_exits()
        if depth:
            spawn(stray, depth - 1)
        else:
            await trio.sleep_forever()

    async def start() -> Pid:
        spawn(stray, 2)
        return await Supervisor.start_link([worker("web", log)])

    outsider = spawn(idle)
    applications = await Applications.start([spec("web", log, start=start), spec("db", log)])
    await settle()
    assert [is_alive(pid) for pid in strays] == [False, False, True]
    log.clear()
    await Applications.stop_application(applications, "web")
    assert not any(is_alive(pid) for pid in strays)
    assert is_alive(outsider)
    assert whereis("db") is not None
    assert log.take() == ["prep_stop web", "stop web", "over web"]


async def test_prep_stop_finds_everything_running_and_stop_nothing(
    runtime: Runtime, log: Log
) -> None:
    seen: list[Any] = []

    async def before() -> None:
        seen.append(whereis("web") is not None)

    async def after() -> None:
        seen.append(whereis("web") is not None)

    applications = await Applications.start([spec("web", log, prep_stop=before, stop=after)])
    await stop(applications)
    assert seen == [True, False]


async def test_a_callback_that_raises_is_logged_and_everything_stops_nevertheless(
    runtime: Runtime, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise ValueError("too late")

    logger.attach(runtime.telemetry)
    store = spec("store", log)
    web = spec("web", log, store, prep_stop=fails, stop=fails)
    applications = await Applications.start([web])
    await stop(applications)
    assert log.names("stop") == "webstore"
    assert log.names("over") == "store"
    assert "prep_stop of application 'web' raised" in caplog.text
    assert "stop of application 'web' raised" in caplog.text
    assert "ValueError: too late" in caplog.text


async def test_the_stop_of_an_application_waits_for_its_children(
    runtime: Runtime, log: Log
) -> None:
    slow = child_spec(Worker, "slow", log, kwargs={"stop_takes": 1000.0}, shutdown=2000.0)
    applications = await Applications.start([ApplicationSpec(name="slow", top=[slow])])
    began = trio.current_time()
    await stop(applications)
    assert trio.current_time() - began == 1000
    assert log.names("stop") == "slow"


# Mistakes


def test_two_applications_of_one_name_are_refused(log: Log) -> None:
    one, other = spec("same", log), spec("same", log)
    with pytest.raises(
        InvalidArgument, match="two different applications have this name"
    ) as caught:
        spec("web", log, one, other).closure()
    assert caught.value.value == "same"


async def test_a_request_with_two_applications_of_one_name_gets_the_error(
    runtime: Runtime, log: Log
) -> None:
    applications = await Applications.start([])
    web = spec("web", log, spec("same", log), spec("same", log))
    with pytest.raises(InvalidArgument, match="two different applications have this name"):
        await Applications.ensure_all_started(applications, web)
    assert await Applications.which_applications(applications) == []


def test_one_application_may_be_needed_by_many(log: Log) -> None:
    web, store = diamond(log)
    assert [each.name for each in web.closure()] == ["store", "left", "right", "web"]
    assert store.closure() == [store]


@pytest.mark.parametrize(("option", "value"), [("type", "eternal"), ("depends_on", ["store"])])
def test_an_invalid_application_is_refused(option: str, value: Any) -> None:
    options: Any = {option: value}
    with pytest.raises(InvalidArgument, match="write"):
        ApplicationSpec(name="web", top=[], **options)


async def test_a_request_from_the_start_of_an_application_is_refused(
    runtime: Runtime, log: Log
) -> None:
    class Eager(GenServer[None]):
        async def init(self) -> None:
            await Applications.ensure_all_started("applications", spec("other", log))

    await Applications.start([], name="applications")
    with pytest.raises(ApplicationStartFailed, match="called the supervisor"):
        await Applications.start_application(
            "applications", ApplicationSpec(name="eager", top=[Eager])
        )

    async def eager() -> Pid:
        await Applications.which_applications("applications")
        return await Supervisor.start_link([])

    with pytest.raises(ApplicationStartFailed, match="called the supervisor"):
        await Applications.start_application("applications", spec("eager", log, start=eager))


async def test_a_request_from_the_stop_of_an_application_is_refused(
    runtime: Runtime, log: Log
) -> None:
    heard: list[Any] = []

    async def asks() -> None:
        try:
            await Applications.which_applications("applications")
        except SupervisorDeadlock as error:
            heard.append(error)

    await Applications.start([spec("web", log, prep_stop=asks, stop=asks)], name="applications")
    await Applications.stop_application("applications", "web")
    assert len(heard) == 2


async def test_a_process_of_an_application_may_start_and_stop_others(
    runtime: Runtime, log: Log
) -> None:
    class Asker(GenServer[None]):
        async def handle_call(self, request: Any, sender: Any) -> Reply:
            started = await Applications.ensure_all_started("applications", other)
            await Applications.stop_application("applications", "other")
            return Reply(started)

    other = spec("other", log)
    asker = ApplicationSpec(name="asker", top=[child_spec(Asker, kwargs={"name": "asker"})])
    await Applications.start([asker], name="applications")
    assert await call("asker", "go") == ["other"]


async def test_stray_messages_do_not_disturb_it(runtime: Runtime, log: Log) -> None:
    applications = await Applications.start([spec("web", log)])
    send(applications, "what")
    cast(applications, "what")
    with pytest.raises(CallTimeout):
        await call(applications, "what")
    assert await Applications.which_applications(applications) == ["web"]
