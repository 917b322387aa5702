"""The plan of a parent: when it starts, stops, replaces and kills workers. Times are numbers here."""

from __future__ import annotations

import math
import signal

import pytest

from channels.pubsub.workers.plan import (
    Action,
    Adopt,
    Close,
    End,
    Finish,
    Kill,
    Note,
    Plan,
    Release,
    Serving,
    Start,
    State,
    Stop,
    Timing,
    Worker,
)
from supervision.backoff import Backoff

TIMING = Timing(
    start_timeout=60.0, stop_grace=10.0, kill_grace=2.0, backoff=Backoff(1.0, 8.0, reset_after=60.0)
)
FAILED = End(1)
KILLED = End(-signal.SIGKILL)


class Driver:
    """A plan with a clock, and a parent that does what it says."""

    def __init__(self, count: int, *, reloads: bool = False) -> None:
        self.plan = Plan(count, TIMING, reloads=reloads)
        self.now = 100.0
        self.log: list[Action] = []
        self._do(self.plan.begin(self.now))

    def _do(self, actions: list[Action]) -> list[Action]:
        self.log += actions
        return actions

    def ready(self, worker: Worker) -> list[Action]:
        return self._do(self.plan.ready(worker, self.now, stop_seconds=30.0))

    def stopping(self, worker: Worker) -> list[Action]:
        return self._do(self.plan.stopping(worker, self.now))

    def drained(self, worker: Worker) -> list[Action]:
        return self._do(self.plan.drained(worker))

    def ended(self, worker: Worker, end: End = KILLED) -> list[Action]:
        return self._do(self.plan.ended(worker, end, self.now))

    def replace(self, cause: str | None = None) -> list[Action]:
        return self._do(self.plan.replace(self.now, cause=cause))

    def stop(self, signum: int = signal.SIGTERM) -> list[Action]:
        return self._do(self.plan.stop(signum, self.now))

    def wait(self) -> list[Action]:
        """Let the time pass until the plan has something to do."""
        assert self.plan.deadline < math.inf, "nothing is due"
        self.now = max(self.now, self.plan.deadline)
        return self._do(self.plan.tick(self.now))

    def current(self, place: int) -> Worker:
        worker = self.plan.places[place].current
        assert worker is not None
        return worker

    def ids(self) -> list[int]:
        return [worker.id for worker in self.plan.workers()]

    def serve(self) -> Driver:
        """Get all places served."""
        self.ready(self.current(1))
        for place in list(self.plan.places)[1:]:
            self.ready(self.current(place))
        return self


def started(actions: list[Action]) -> list[Worker]:
    return [each.worker for each in actions if isinstance(each, Start)]


def sentences(actions: list[Action]) -> str:
    return "\n".join(each.sentence for each in actions if isinstance(each, Note))


@pytest.fixture
def four() -> Driver:
    """Four places that are served."""
    return Driver(4).serve()


# The start


def test_the_first_worker_starts_alone_and_the_others_together_after_it() -> None:
    driver = Driver(3)
    assert [worker.place for worker in started(driver.log)] == [1]
    assert [worker.place for worker in started(driver.ready(driver.current(1)))] == [2, 3]


def test_the_server_serves_when_every_place_is_served() -> None:
    driver = Driver(2)
    assert Serving() not in driver.ready(driver.current(1))
    states = [driver.plan.state]
    assert Serving() in driver.ready(driver.current(2))
    states.append(driver.plan.state)
    driver.stop()
    states.append(driver.plan.state)
    assert states == [State.STARTING, State.SERVING, State.STOPPING]


def test_one_worker_is_enough() -> None:
    driver = Driver(1)
    assert Serving() in driver.ready(driver.current(1))


def test_a_first_worker_that_exits_ends_the_server_with_its_code_and_no_sentence_more() -> None:
    driver = Driver(4)
    assert driver.ended(driver.current(1), End(2)) == [Finish(2)]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (KILLED, "was killed by SIGKILL"),
        (End(0), "exited with 0"),
        (End(-64), "killed by signal 64" if not hasattr(signal, "SIGRTMAX") else "SIGRTMAX"),
        (End(None, "Cannot allocate memory"), "could not be started: Cannot allocate memory"),
    ],
)
def test_a_first_worker_that_could_print_nothing_is_explained(end: End, said: str) -> None:
    driver = Driver(4)
    actions = driver.ended(driver.current(1), end)
    assert said in sentences(actions)
    assert actions[-1] == Finish(1)


def test_a_first_worker_that_takes_too_long_is_killed() -> None:
    driver = Driver(2)
    worker = driver.current(1)
    assert Kill(worker) in driver.wait()
    assert driver.now == 160.0
    assert driver.ended(worker)[-1] == Finish(1)


def test_a_later_worker_that_fails_to_start_is_started_again() -> None:
    driver = Driver(2)
    driver.ready(driver.current(1))
    assert Finish(1) not in driver.ended(driver.current(2), FAILED)
    assert started(driver.wait())
    assert Serving() in driver.ready(driver.current(2))


# Deaths


def test_a_dead_worker_is_followed_by_another_in_its_place(four: Driver) -> None:
    dead = four.current(2)
    assert started(four.ended(dead)) == []
    (worker,) = started(four.wait())
    assert (worker.place, worker.id) == (dead.place, dead.id)
    assert four.now == 101.0
    assert four.plan.places[2].restarts == 1
    assert four.plan.places[2].last_end == "was killed by SIGKILL"


def test_the_others_are_not_touched_by_a_death(four: Driver) -> None:
    actions = four.ended(four.current(2))
    four.wait()
    assert not any(isinstance(each, Stop | Kill) for each in actions)
    assert all(four.plan.places[each].is_served for each in (1, 3, 4))


def test_the_waits_grow_up_to_a_bound_while_a_place_goes_on_dying(four: Driver) -> None:
    waits = []
    for _ in range(6):
        four.ended(four.current(3))
        before = four.now
        four.wait()
        waits.append(four.now - before)
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_worker_that_served_for_a_while_is_followed_soon(four: Driver) -> None:
    for _ in range(4):
        four.ended(four.current(3))
        four.wait()
    four.ready(four.current(3))
    four.now += 100.0
    four.ended(four.current(3))
    before = four.now
    four.wait()
    assert four.now - before == 1.0


def test_a_worker_that_stops_by_itself_is_followed_while_it_drains(four: Driver) -> None:
    old = four.current(2)
    assert not any(isinstance(each, Stop) for each in four.stopping(old))
    (worker,) = started(four.wait())
    assert worker.place == 2
    assert worker.id != old.id
    four.ready(worker)
    assert four.ended(old, End(0)) == []
    assert four.current(2) is worker


def test_a_worker_that_stops_by_itself_and_does_not_end_is_killed(four: Driver) -> None:
    old = four.current(2)
    four.stopping(old)
    four.wait()
    four.ready(four.current(2))
    assert Kill(old) in four.wait()
    assert four.now == 100.0 + 30.0 + 10.0


# Replacing


def roll(driver: Driver) -> list[tuple[int, int]]:
    """Replace the workers as long as the plan wants it. Return the places and ids of the new ones."""
    new = []
    actions = driver.replace()
    while starting := started(actions):
        (worker,) = starting
        new.append((worker.place, worker.id))
        (stop,) = [each for each in driver.ready(worker) if isinstance(each, Stop)]
        assert (stop.signum, stop.together) == (signal.SIGTERM, False)
        actions = driver.ended(stop.worker, End(0))
    return new


def test_workers_are_replaced_one_after_the_other(four: Driver) -> None:
    assert [place for place, _ in roll(four)] == [1, 2, 3, 4]
    assert not four.plan.is_replacing
    assert "replaced 4 workers" in sentences(four.log)


def test_a_note_about_one_worker_has_the_singular() -> None:
    alone = Driver(1).serve()
    roll(alone)
    assert {"replacing 1 worker", "replaced 1 worker"} <= set(sentences(alone.log).splitlines())


def test_ids_are_unique_among_the_living_and_stay_small(four: Driver) -> None:
    assert [id for _, id in roll(four)] == [5, 1, 2, 3]
    assert [id for _, id in roll(four)] == [4, 5, 1, 2]


def test_an_old_worker_is_not_stopped_before_its_successor_serves(four: Driver) -> None:
    actions = four.replace()
    assert not any(isinstance(each, Stop) for each in actions)
    assert four.plan.places[1].is_served


def test_a_successor_that_does_not_start_ends_the_replacement_and_the_old_workers_stay(
    four: Driver,
) -> None:
    old = [four.current(place) for place in (1, 2, 3, 4)]
    (worker,) = started(four.replace())
    actions = four.ended(worker, FAILED)
    assert "worker 5 (place 1) exited with 1 before it was ready" in sentences(actions)
    assert started(actions) == []
    assert four.plan.deadline == math.inf
    assert [four.current(place) for place in (1, 2, 3, 4)] == old
    assert len(roll(four)) == 4, "the next SIGHUP tries again"


def test_a_successor_takes_the_place_of_a_worker_that_died_meanwhile(four: Driver) -> None:
    (worker,) = started(four.replace())
    assert started(four.ended(four.current(1))) == []
    assert four.current(1) is worker
    actions = four.ready(worker)
    assert not any(isinstance(each, Stop) for each in actions)
    assert [each.place for each in started(actions)] == [2]


def test_a_place_that_waits_for_a_restart_does_not_hold_the_others_up(four: Driver) -> None:
    (worker,) = started(four.replace())
    (stop,) = [each for each in four.ready(worker) if isinstance(each, Stop)]
    four.ended(four.current(3))
    assert [each.place for each in started(four.ended(stop.worker, End(0)))] == [2]


def test_a_second_request_replaces_those_that_started_before_it(four: Driver) -> None:
    (first,) = started(four.replace())
    four.replace()
    (stop,) = [each for each in four.ready(first) if isinstance(each, Stop)]
    four.ended(stop.worker, End(0))
    places = [first.place]
    while four.plan.is_replacing:
        successor = next(p.successor for p in four.plan.places.values() if p.successor)
        places.append(successor.place)
        (stop,) = [each for each in four.ready(successor) if isinstance(each, Stop)]
        four.ended(stop.worker, End(0))
    assert places == [1, 1, 2, 3, 4]


def test_a_request_does_not_wait_for_the_backoff_of_dead_workers(four: Driver) -> None:
    for _ in range(4):
        four.ended(four.current(3))
        four.wait()
    four.ended(four.current(3))
    now = started(four.replace())
    assert 3 in [worker.place for worker in now]


def test_a_request_during_the_start_replaces_the_first_worker_too() -> None:
    driver = Driver(2)
    driver.replace()
    assert [worker.place for worker in started(driver.ready(driver.current(1)))] == [2]
    assert [worker.place for worker in started(driver.ready(driver.current(2)))] == [1]


def test_an_old_worker_that_does_not_end_is_killed(four: Driver) -> None:
    (worker,) = started(four.replace())
    old = four.current(1)
    four.ready(worker)
    assert Kill(old) in four.wait()
    assert [each.place for each in started(four.ended(old))] == [2]


# The stop


def test_a_stop_is_handed_down_to_all_and_ends_with_the_last(four: Driver) -> None:
    workers = list(four.plan.workers())
    assert four.stop(signal.SIGINT) == [
        Stop(worker, signal.SIGINT, together=True) for worker in workers
    ]
    for worker in workers[:3]:
        assert four.drained(worker) == []
    closed: list[Action] = [Close(place) for place in (1, 2, 3, 4)]
    assert four.drained(workers[3]) == [*closed, *map(Release, workers)]
    for worker in workers[:3]:
        assert four.ended(worker, End(0)) == []
    assert four.ended(workers[3], End(0)) == [Finish(0)]


def test_a_place_whose_worker_dies_during_the_stop_is_adopted_until_no_worker_is_left(
    four: Driver,
) -> None:
    workers = list(four.plan.workers())
    four.stop()
    first, second, third, fourth = workers
    assert four.ended(first) == [Adopt(1, second)]
    # The second worker has answered the connections of two places.
    assert four.ended(second) == [Adopt(1, third), Adopt(2, third)]
    assert four.ended(third) == [Adopt(1, fourth), Adopt(2, fourth), Adopt(3, fourth)]
    assert four.ended(fourth) == [*map(Close, (1, 2, 3, 4)), Finish(0)]


def test_a_place_whose_host_cannot_be_told_is_adopted_by_another_worker_or_closed(
    four: Driver,
) -> None:
    first, second, third, fourth = four.plan.workers()
    four.stop()
    assert four.ended(first) == [Adopt(1, second)]
    assert four.plan.not_adopted(1, second) == [Adopt(1, third)]
    assert four.plan.not_adopted(1, third) == [Adopt(1, fourth)]
    assert four.plan.not_adopted(1, fourth) == [Close(1)]
    # A worker accepts from its own place without a message.
    assert four.ended(second) == [Close(2)]


def test_a_place_without_a_worker_is_adopted_at_the_stop(four: Driver) -> None:
    four.ended(four.current(3))
    assert Adopt(3, four.current(1)) in four.stop()


def test_a_place_that_a_starting_worker_serves_later_is_adopted_at_the_stop(four: Driver) -> None:
    four.ended(four.current(3))
    (starting,) = started(four.wait())
    actions = four.stop()
    assert Stop(starting, signal.SIGTERM) in actions
    assert Adopt(3, four.current(1)) in actions


def test_the_place_of_an_old_worker_stays_with_its_successor_during_the_stop(four: Driver) -> None:
    (successor,) = started(four.replace())
    old = four.current(1)
    four.ready(successor)
    assert not any(isinstance(each, Adopt | Close) for each in four.stop())
    assert four.ended(old, End(0)) == []


def test_no_worker_is_released_before_the_last_one_has_drained(four: Driver) -> None:
    (successor,) = started(four.replace())
    old = four.current(1)
    four.ready(successor)
    four.stop()
    others = [each for each in four.plan.workers() if each is not old]
    for worker in others:
        assert four.drained(worker) == []
    # The old worker was told to stop alone, so it ends without a report.
    assert four.ended(old, End(0))[-4:] == [*map(Release, others)]


def test_a_worker_that_dies_before_it_has_drained_does_not_delay_the_release(four: Driver) -> None:
    workers = list(four.plan.workers())
    four.stop()
    for worker in workers[1:]:
        four.drained(worker)
    actions = four.ended(workers[0])
    assert actions[0] == Adopt(1, workers[1])
    assert actions[-3:] == [*map(Release, workers[1:])]


def test_a_worker_that_does_not_stop_in_time_is_killed(four: Driver) -> None:
    four.stop()
    actions = four.wait()
    assert four.now == 100.0 + 30.0 + 10.0
    assert [each for each in actions if isinstance(each, Kill)] == [
        Kill(worker) for worker in four.plan.workers()
    ]


def test_a_second_signal_does_not_wait(four: Driver) -> None:
    four.stop()
    workers = list(four.plan.workers())
    assert four.stop(signal.SIGINT) == [Stop(worker, signal.SIGINT) for worker in workers]
    actions = four.wait()
    assert four.now == 102.0
    assert Kill(workers[0]) in actions
    for worker in workers[:3]:
        four.ended(worker)
    assert four.ended(workers[3]) == [*map(Close, (1, 2, 3, 4)), Finish(130)]


def test_a_stop_during_the_start_ends_the_first_worker() -> None:
    driver = Driver(4)
    worker = driver.current(1)
    assert driver.stop() == [Stop(worker, signal.SIGTERM), *map(Close, (2, 3, 4))]
    assert driver.ready(worker) == []
    assert driver.ended(worker, End(-signal.SIGTERM)) == [Close(1), Finish(0)]


def test_a_stop_starts_nothing_more(four: Driver) -> None:
    four.ended(four.current(2))
    four.replace()
    four.stop()
    assert all(place.restart_at == math.inf for place in four.plan.places.values())
    assert four.replace() == []
    for worker in list(four.plan.workers()):
        assert started(four.ended(worker, End(0))) == []
    assert isinstance(four.log[-1], Finish)


def test_a_worker_that_leaves_already_gets_no_second_signal(four: Driver) -> None:
    (worker,) = started(four.replace())
    old = four.current(1)
    four.ready(worker)
    assert old not in [each.worker for each in four.stop() if isinstance(each, Stop)]


def test_a_stop_without_living_workers_ends_at_once() -> None:
    driver = Driver(1).serve()
    driver.ended(driver.current(1))
    assert driver.stop() == [Close(1), Finish(0)]


def test_a_replacement_that_was_asked_for_again_survives_the_failure_of_its_first_worker() -> None:
    driver = Driver(1).serve()
    old = driver.current(1)
    (first,) = started(driver.replace())
    driver.replace()
    (second,) = started(driver.ended(first, FAILED))
    driver.ready(second)
    assert driver.current(1) is second
    driver.ended(old, End(0))
    assert not driver.plan.is_replacing


# Reloading


def test_a_reloading_parent_waits_for_a_change_if_its_first_worker_fails() -> None:
    driver = Driver(2, reloads=True)
    actions = driver.ended(driver.current(1), FAILED)
    assert "waiting for a change of a file" in sentences(actions)
    assert not any(isinstance(each, Finish) for each in actions)
    assert driver.plan.deadline > driver.now + 1e9
    (again,) = started(driver.replace())
    assert [each.place for each in started(driver.ready(again))] == [2]
    assert Serving() in driver.ready(driver.current(2))


def test_a_reloading_parent_names_the_file_in_its_advice() -> None:
    driver = Driver(1, reloads=True).serve()
    (worker,) = started(driver.replace())
    assert "save the file again" in sentences(driver.ended(worker, FAILED))
    assert "serving" in str(driver.plan.state)


def test_a_reload_has_one_note_in_the_log_of_level_info() -> None:
    driver = Driver(1, reloads=True).serve()
    del driver.log[:]
    (worker,) = started(driver.replace("room.py and 1 more"))
    (stop,) = [each for each in driver.ready(worker) if isinstance(each, Stop)]
    driver.ended(stop.worker, End(0))
    notes = [each for each in driver.log if isinstance(each, Note)]
    assert [note.sentence for note in notes if note.level != "debug"] == [
        "reloaded the code after a change of room.py and 1 more"
    ]
    assert len(notes) == 4


def test_a_reloading_parent_without_a_worker_stops_at_a_signal() -> None:
    driver = Driver(1, reloads=True)
    driver.ended(driver.current(1), FAILED)
    assert Finish(0) in driver.stop()
