"""The network address of a client, and the limit of clients per address."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import InvalidOption
from channels.endpoint.address_limit import AddressLimit

PROXIES = ["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["spoofed, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.1.2.3", ["spoofed", "198.51.100.1", "10.9.9.9"], "198.51.100.1"),
        ("10.1.2.3", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.2.3", ["[2a00:1:2:3::9]:4711"], "2a00:1:2:3::/64"),
        ("10.1.2.3", ["198.51.100.1, unknown"], "10.1.2.3"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("2001:db8::1", ["2a00:1:2:3:4:5:6:7"], "2a00:1:2:3::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("a name", ["198.51.100.1"], "a name"),
        (None, ["198.51.100.1"], None),
    ],
)
def test_the_address_of_a_client_is_the_last_address_outside_the_proxies(
    peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    assert AddressLimit(1, PROXIES).table().key(peer, forwarded) == expected


@pytest.mark.parametrize("proxy", ["::ffff:10.0.0.1", "::ffff:10.0.0.0/104"])
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_proxy_may_be_written_as_a_socket_for_both_families_shows_it(
    proxy: str, peer: str
) -> None:
    assert AddressLimit(1, [proxy]).table().key(peer, ["203.0.113.7"]) == "203.0.113.7"


def test_addresses_of_one_ipv6_customer_count_together() -> None:
    addresses = AddressLimit(1).table()
    keys = {addresses.key(f"2a00:1:2:3::{number}", []) for number in range(1, 9)}
    assert keys == {"2a00:1:2:3::/64"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_an_address_never_has_more_clients_than_its_limit_and_is_dropped_without_clients(
    steps: list[tuple[str, bool]],
) -> None:
    addresses = AddressLimit(2).table()
    inside: dict[str, int] = {}
    for key, enters in steps:
        count = inside.get(key, 0)
        assert addresses.is_full(key) == (count == 2)
        if enters:
            assert addresses.enter(key) == (count < 2)
            inside[key] = min(count + 1, 2)
        elif count:
            addresses.leave(key)
            inside[key] = count - 1
        assert len(addresses) == sum(count > 0 for count in inside.values())


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"max_clients": 0}, "max_clients=0; write a whole number, 1 or more"),
        ({"trusted_proxies": "10.0.0.0/8"}, 'write a list of addresses or networks: ["127.0.0.1"'),
        ({"trusted_proxies": ["proxy"]}, "trusted_proxies='proxy'; write a list of addresses"),
        ({"trusted_proxies": [7]}, "trusted_proxies=7; write a list of addresses"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies='10.0.0.1/8'"),
    ],
)
def test_an_invalid_limit_is_refused_with_the_correction(
    options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(InvalidOption) as caught:
        AddressLimit(**{"max_clients": 1, **options})
    assert advice in str(caught.value)
