"""A ring keeps the newest records within a count and a size, and counts the others."""

from sys import getsizeof

from hypothesis import given
from hypothesis import strategies as st

from supervision.recording.ring import ContentRing, Ring


@given(
    st.lists(st.integers(0, 50)),
    st.integers(1, 10),
    st.integers(1, 100),
)
def test_a_ring_never_exceeds_its_bounds(
    sizes: list[int], max_records: int, max_bytes: int
) -> None:
    ring: Ring[int] = Ring(max_records=max_records, max_bytes=max_bytes)
    for number, size in enumerate(sizes):
        ring.append(number, size)
        kept = ring.copy()
        assert len(kept) == len(ring) <= max_records
        assert ring.bytes == sum(sizes[each] for each in kept) <= max_bytes
        # The newest ones, without a gap.
        assert kept == list(range(number + 1 - len(kept), number + 1))
        assert ring.dropped == number + 1 - len(kept)


def test_a_record_larger_than_the_ring_is_dropped_itself() -> None:
    ring: Ring[str] = Ring(max_records=3, max_bytes=10)
    ring.append("small", 5)
    ring.append("huge", 11)
    assert (ring.copy(), ring.bytes, ring.dropped, ring.last) == ([], 0, 2, "huge")


def test_the_content_of_a_message_counts_the_bytes_that_it_takes_in_memory() -> None:
    ring = ContentRing(max_records=10, max_bytes=100_000)
    text = "\N{SNAKE}" * 2000
    ring.append((0, 1.5, "sent", text))
    assert ring.bytes >= getsizeof(text) > 8000
