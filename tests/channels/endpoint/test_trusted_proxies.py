"""The address and the scheme of a client behind trusted proxies."""

from __future__ import annotations

from typing import Any

import pytest

from actors import InvalidOption
from channels import Endpoint
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
        ("10.1.2.3", ["[2a00:1:2:3::9]:4711"], "2a00:1:2:3::9"),
        ("10.1.2.3", ["198.51.100.1, unknown"], "10.1.2.3"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.7", [], "::ffff:203.0.113.7"),
        ("2001:db8::1", ["2a00:1:2:3:4:5:6:7"], "2a00:1:2:3:4:5:6:7"),
        ("fe80::1%eth0", [], "fe80::1%eth0"),
        ("a name", ["198.51.100.1"], "a name"),
        (None, ["198.51.100.1"], None),
    ],
)
def test_the_address_of_a_client_is_the_last_address_outside_the_proxies(
    peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    assert TrustedProxies(PROXIES).address_of(peer, forwarded) == expected


@pytest.mark.parametrize("proxy", ["::ffff:10.0.0.1", "::ffff:10.0.0.0/104"])
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_proxy_may_be_written_as_a_socket_for_both_families_shows_it(
    proxy: str, peer: str
) -> None:
    assert TrustedProxies([proxy]).address_of(peer, ["203.0.113.7"]) == "203.0.113.7"


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
