from tests.benchmarks.channels.figures import latencies, percentile, ratios, spread
from tests.benchmarks.channels.proc import parse_cpu, parse_kilobytes, parse_stat


def test_a_percentile_is_one_of_the_values() -> None:
    values = list(range(1, 101))
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert percentile([7], 0.99) == 7


def test_latencies_are_in_milliseconds_and_need_no_order() -> None:
    found = latencies([0.003, 0.001, 0.002])
    assert found is not None
    assert (found.p50, found.p99, found.mean, found.most) == (2.0, 3.0, 2.0, 3.0)
    assert latencies([]) is None


def test_the_spread_has_the_median_and_the_range() -> None:
    found = spread([3.0, 1.0, 10.0])
    assert found is not None
    assert (found.median, found.least, found.most, found.rounds) == (3.0, 1.0, 10.0, 3)
    assert spread([]) is None


def test_a_ratio_compares_values_of_the_same_round_only() -> None:
    assert ratios({0: 2.0, 1: 9.0, 3: 4.0}, {0: 1.0, 1: 3.0, 2: 5.0, 3: 0.0}) == [2.0, 3.0]


def test_the_name_of_a_process_may_contain_brackets() -> None:
    text = "12 (a) b (c) S 7 1 1 0 -1 4194304 5 6 0 0 150 25 3 4 20 0 1 0 99 100 200"
    found = parse_stat(text)
    assert (found.parent, found.ticks) == (7, 175)


def test_idle_time_and_waiting_for_disks_are_not_busy() -> None:
    text = "cpu  10 2 3 1000 500 1 2 4 5 0\ncpu0 1 1 1 1 1 1 1 1 1 0\n"
    assert parse_cpu(text) == 10 + 2 + 3 + 1 + 2 + 4


def test_a_line_in_kilobytes_is_found_by_its_name() -> None:
    text = "MemFree:  12 kB\nSlab:      3 kB\nSReclaimable:  1 kB\n"
    assert parse_kilobytes(text, "Slab") == 3072
    assert parse_kilobytes(text, "Missing") == 0
