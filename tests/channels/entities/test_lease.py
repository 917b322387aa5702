"""The lease of a session."""

import math

import trio

from channels.entities.lease import Lease


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_is_valid_until_its_time() -> None:
    clock = _Clock()
    lease = Lease(clock, until=108.0)
    assert lease.is_valid
    assert lease.seconds_left == 8.0
    clock.now = 107.999
    assert lease.is_valid
    clock.now = 108.0
    assert not lease.is_valid
    assert lease.problem == "it was not renewed in time"
    assert lease.seconds_left == 0.0


def test_a_renewal_extends_a_lease_and_never_shortens_it() -> None:
    clock = _Clock()
    lease = Lease(clock, until=108.0)
    lease.extend(110.0)
    lease.extend(105.0)
    clock.now = 109.0
    assert lease.is_valid


def test_a_lost_lease_never_becomes_valid_again() -> None:
    clock = _Clock()
    lease = Lease(clock, until=108.0)
    clock.now = 109.0
    # Nobody has looked at the lease since it ended.
    lease.extend(120.0)
    assert not lease.is_valid
    clock.now = 100.0
    assert not lease.is_valid


def test_a_lease_without_an_end_is_valid_until_it_is_lost() -> None:
    lease = Lease(_Clock())
    assert lease.is_valid
    assert lease.seconds_left == math.inf
    lease.lose("the parent has ended")
    lease.lose("a later problem")
    assert not lease.is_valid
    assert lease.problem == "the parent has ended"


async def test_a_task_can_wait_for_the_loss_of_a_lease(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock = _Clock()
    lease = Lease(clock, until=101.0)
    problems = []

    async def wait() -> None:
        problems.append(await lease.wait_lost())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        assert not problems
        clock.now = 101.0
        assert not lease.is_valid
    assert problems == ["it was not renewed in time"]
