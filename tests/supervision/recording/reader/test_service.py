"""The figures of the event loop and of the requests."""

from __future__ import annotations

import pytest

from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import measure
from supervision.recording.reader.service import (
    ANSWERED,
    OPEN,
    UNANSWERED,
    LoopMeasures,
    MachineMeasures,
    Request,
    measure_loop,
    measure_machine,
    measure_requests,
)
from tests.supervision.laboratory.chaos.traces import HandMade


def loop(*lags: float, max_late_share: float = 0.1) -> LoopMeasures:
    measured = measure_loop(lags, late_after=0.1, max_late_share=max_late_share)
    assert measured is not None
    return measured


def request(client: str, seconds: float, status: str = ANSWERED) -> Request:
    return Request("say", client, 0.0, seconds, 1.0, status)


def test_the_loop_is_overloaded_above_the_allowed_share_of_late_times() -> None:
    assert not loop(*[0.0] * 9, 0.2).overloaded
    assert loop(*[0.0] * 8, 0.2, 0.2).overloaded
    assert not loop(0.2, max_late_share=1.0).overloaded


def test_the_lag_has_percentiles_and_the_share_above_the_limit() -> None:
    measured = loop(*[0.01] * 97, 0.1, 0.5, 2.0)
    assert (measured.median, measured.p99, measured.longest) == (0.01, 0.5, 2.0)
    assert measured.late_share == pytest.approx(0.02)


def test_without_a_due_time_there_is_no_lag() -> None:
    assert measure_loop([], late_after=0.1, max_late_share=0.1) is None


def machine(seconds: float, waited: float | None, load: float | None) -> MachineMeasures:
    return measure_machine(seconds, waited, load, max_wait_share=0.1, max_load=2.0)


def test_a_machine_is_overloaded_above_the_allowed_wait_or_load() -> None:
    assert not machine(60, 6.0, 2.0).overloaded
    assert machine(60, 6.1, 0.0).overloaded
    assert machine(60, 0.0, 2.1).overloaded


def test_a_machine_without_figures_is_not_overloaded() -> None:
    assert not machine(60, None, None).overloaded
    measured = machine(0, 1.0, 1.0)
    assert (measured.wait_share, measured.overloaded) == (None, False)


def test_each_request_is_in_time_late_or_unanswered() -> None:
    (say,) = measure_requests(
        [request("a", 0.1), request("a", 1.0), request("b", 1.1), request("b", 9, UNANSWERED)]
    )
    assert (say.count, say.in_time, say.late, say.unanswered) == (4, 2, 1, 1)
    assert (say.median, say.p99, say.longest) == (1.0, 1.1, 1.1)
    assert (say.share_in_time, say.share_of_clients) == (0.5, 0.5)


def test_a_request_that_the_end_cut_off_counts_only_after_its_time_limit() -> None:
    assert measure_requests([request("a", 0.9, OPEN)]) == []
    (say,) = measure_requests([request("a", 1.0, OPEN)])
    assert say.unanswered == 1


def test_a_client_with_many_good_requests_does_not_hide_the_others() -> None:
    good = [request("a", 0.1)] * 99
    (say,) = measure_requests([*good, request("b", 5, UNANSWERED), request("c", 5, UNANSWERED)])
    assert say.share_in_time > 0.9
    assert (say.clients_in_time, say.clients) == (1, 3)


def each_second(client: str, *, until: float, since: float = 0.0) -> list[Request]:
    """The requests of a client that makes one each second, with an answer after 0.1 s."""
    count = int(until - since)
    return [Request("say", client, since + n, 0.1, 1.0, ANSWERED) for n in range(count)]


def test_a_client_with_requests_before_the_faults_and_none_during_them_is_not_answered() -> None:
    hung = each_second("a", until=5) + each_second("a", since=60, until=65)
    served = each_second("b", until=65)
    (say,) = measure_requests([*hung, *served], since=5, until=60)
    assert (say.silent, say.clients, say.clients_in_time) == (1, 2, 1)
    assert (say.count, say.unanswered) == (65, 0)


def test_if_all_clients_are_silent_no_request_is_in_time() -> None:
    (say,) = measure_requests(each_second("a", until=5), since=5, until=60)
    assert (say.silent, say.clients, say.count) == (1, 1, 0)
    assert (say.share_in_time, say.share_of_clients) == (0.0, 0.0)


def test_a_request_that_hangs_from_before_the_faults_does_not_hide_a_silent_client() -> None:
    hung = [*each_second("a", until=5), Request("say", "a", 4.9, 60.0, 1.0, OPEN)]
    (say,) = measure_requests(hung, since=5, until=60)
    assert say.silent == 1


@pytest.mark.parametrize(
    ("until", "since", "over"),
    [(2, 2, 60), (5, 20, 60), (5, 5, 6.5)],
    ids=["few requests", "the client had finished", "short faults"],
)
def test_a_client_that_was_not_due_is_not_silent(until: float, since: float, over: float) -> None:
    assert measure_requests(each_second("a", until=until), since=since, until=over) == []


def test_the_figures_of_a_trace_have_the_silent_clients() -> None:
    trace = HandMade()
    for each in each_second("a", until=4):
        fields = {"client": "a", "began": each.began, "seconds": 0.1, "within": 1.0}
        trace.add(each.began + 0.1, "request", pid=None, name="say", status=ANSWERED, **fields)
    trace.phases(0, 4, 20, 25)
    assert [each.silent for each in measure(read_history(trace.lines)).requests] == [1]


def test_the_figures_of_a_trace_count_from_the_start_of_the_faults() -> None:
    trace = HandMade()
    limits = {"late_after": 0.1, "max_late_share": 0.1}
    trace.add(1.0, "loop_lag", pid=None, **limits, lags=[[0.5, 3.0]])
    trace.add(6.0, "loop_lag", pid=None, **limits, lags=[[5.5, 0.0], [5.6, 0.2]])
    for began in (1.0, 5.5):
        fields = {"client": "", "began": began, "seconds": 0.3, "within": 1.0, "status": ANSWERED}
        trace.add(began + 0.3, "request", pid=None, name="say", **fields)
    trace.phases(0, 5, 8, 10)
    measures = measure(read_history(trace.lines))
    assert measures.loop is not None
    assert (measures.loop.ticks, measures.loop.longest, measures.loop.overloaded) == (2, 0.2, True)
    assert [each.count for each in measures.requests] == [1]
