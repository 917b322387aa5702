"""The network address of a client, and the limit of clients per address."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import InvalidOption
from channels import Endpoint
from channels.endpoint.address_limit import AddressLimit
from channels.endpoint.trusted_proxies import TrustedProxies

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
    address = TrustedProxies(PROXIES).address_of(peer, forwarded)
    assert (None if address is None else AddressLimit(1).table().key(address)) == expected


@pytest.mark.parametrize("proxy", ["::ffff:10.0.0.1", "::ffff:10.0.0.0/104"])
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_proxy_may_be_written_as_a_socket_for_both_families_shows_it(
    proxy: str, peer: str
) -> None:
    assert TrustedProxies([proxy]).address_of(peer, ["203.0.113.7"]) == "203.0.113.7"


def test_addresses_of_one_ipv6_customer_count_together() -> None:
    addresses = AddressLimit(1).table()
    keys = {addresses.key(f"2a00:1:2:3::{number}") for number in range(1, 9)}
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
        ({"trusted_proxies": "10.0.0.0/8"}, 'write a list of addresses or networks: ["127.0.0.1"'),
        ({"trusted_proxies": ["proxy"]}, "trusted_proxies='proxy'; write a list of addresses"),
        ({"trusted_proxies": [7]}, "trusted_proxies=7; write a list of addresses"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies='10.0.0.1/8'"),
    ],
)
def test_invalid_proxies_are_refused_with_the_correction(
    options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(InvalidOption) as caught:
        Endpoint(sockets={}, **options).check()
    assert advice in str(caught.value)


def test_an_invalid_limit_is_refused_with_the_correction() -> None:
    with pytest.raises(InvalidOption, match="max_clients=0; write a whole number, 1 or more"):
        AddressLimit(0)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.1", ["https"], "https"),
        ("10.0.0.1", ["https, http"], "http"),
        ("10.0.0.1", ["http", "WSS"], "https"),
        ("10.0.0.1", ["gopher"], "http"),
        ("10.0.0.1", [], "http"),
        ("203.0.113.7", ["https"], "http"),
        (None, ["https"], "http"),
    ],
)
def test_the_scheme_is_that_of_the_last_proxy_if_it_is_trusted(
    peer: str | None, forwarded: list[str], expected: str
) -> None:
    assert TrustedProxies(PROXIES).scheme_of(peer, forwarded, "http") == expected


def test_a_proxy_on_a_unix_socket_is_trusted_only_by_its_name() -> None:
    assert TrustedProxies(["unix:"]).address_of(None, ["203.0.113.7"]) == "203.0.113.7"
    assert TrustedProxies(PROXIES).address_of(None, ["203.0.113.7"]) is None
    assert TrustedProxies(["unix:"]).address_of("10.0.0.1", ["203.0.113.7"]) == "10.0.0.1"
