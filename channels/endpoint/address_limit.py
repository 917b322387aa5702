"""The limit on the clients of one network address, also behind proxies.

    endpoint = Endpoint(
        sockets={"/socket": UserSocket},
        address_limit=AddressLimit(max_clients=50, trusted_proxies=["127.0.0.1"]),
    )

*pure*. Only endpoints with this option load this module.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from attrs import field, frozen

from channels.errors import InvalidOption, whole

__all__ = ["AddressLimit", "Addresses"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# A provider gives a customer at least a network of this size, so one client has all of its addresses.
_PREFIX = 64
# The length of the prefix ::ffff:0:0 before an IPv4 address.
_MAPPED_PREFIX = 96


def _check_proxies(limit: AddressLimit, attribute: Any, value: Any) -> None:
    expected = 'a list of addresses or networks: ["127.0.0.1", "10.0.0.0/8"]'
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidOption("AddressLimit", "trusted_proxies", value, expected)
    for each in value:
        try:
            # As text, because the number 1 would be an address.
            ipaddress.ip_network(str(each))
        except ValueError:
            raise InvalidOption("AddressLimit", "trusted_proxies", each, expected) from None


@frozen
class AddressLimit:
    """A limit on the clients of one network address: WebSockets and polling sessions together.

        AddressLimit(max_clients=50, trusted_proxies=["127.0.0.1", "10.0.0.0/8"])

    A further client gets HTTP 429. Many users may share one address, for example behind the router of an office or of a
    mobile network. So an endpoint has no such limit by default. The addresses of an IPv6 network with the prefix length
    64 count as one address.

    Args:
        max_clients: the maximum number of clients of one address.
        trusted_proxies: the addresses and networks of your own proxies. For a request from one of them, the client is
            the last entry of `X-Forwarded-For` that is not a trusted proxy. For all other requests, the endpoint
            ignores this header, because a client can forge it.

    Raises:
        InvalidOption: `max_clients` is not a whole number from 1, or an entry of `trusted_proxies` is no address and no
            network.
    """

    max_clients: int = field(validator=whole)
    trusted_proxies: Sequence[str] = field(default=(), validator=_check_proxies)

    def table(self) -> Addresses:
        """Return an empty table for one run of an endpoint."""
        return Addresses(self.max_clients, map(_network, self.trusted_proxies))


class Addresses:
    """The number of clients of each address.

        >>> addresses = AddressLimit(1).table()
        >>> addresses.enter("203.0.113.7"), addresses.is_full("203.0.113.7")
        (True, True)
        >>> addresses.enter("203.0.113.7")
        False
        >>> addresses.leave("203.0.113.7")
        >>> len(addresses)
        0

    The table contains only addresses that have a client. So `max_connections` and `max_sessions` of the endpoint bound
    its size.

    Args:
        max_clients: the maximum number of clients of one address.
        trusted: the networks of trusted proxies.
    """

    def __init__(self, max_clients: int, trusted: Iterable[Network]) -> None:
        self._max_clients = max_clients
        self._trusted = tuple(trusted)
        self._clients: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def key(self, peer: str | None, forwarded: Iterable[str]) -> str | None:
        """Return the name under which a client counts; None if the network has no addresses.

        Args:
            peer: the address of the other end of the connection.
            forwarded: the values of all headers `X-Forwarded-For`, in order.
        """
        found = None if peer is None else _parse(peer)
        if found is None:
            return peer
        if self._trusted and self._is_trusted(found):
            for entry in reversed(",".join(forwarded).split(",")):
                before = _parse(entry)
                if before is None:
                    # Count the client under the proxy that wrote this, because nothing before it can be trusted.
                    break
                found = before
                if not self._is_trusted(found):
                    break
        return _name(found)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def is_full(self, key: str) -> bool:
        """Return True if an address has as many clients as it may have."""
        return self._clients.get(key, 0) >= self._max_clients

    def enter(self, key: str) -> bool:
        """Count a client. Return False, and count nothing, if its address is full."""
        clients = self._clients.get(key, 0)
        if clients >= self._max_clients:
            return False
        self._clients[key] = clients + 1
        return True

    def leave(self, key: str) -> None:
        """Stop counting a client that has entered."""
        clients = self._clients[key] - 1
        if clients:
            self._clients[key] = clients
        else:
            del self._clients[key]


def _network(text: str) -> Network:
    """Return a network of proxies, in the form in which `_parse` returns its addresses."""
    network = ipaddress.ip_network(text)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))


def _parse(text: str) -> Address | None:
    """Return the address in a text that may contain a port; None if there is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket for both families shows IPv4 clients in this form.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _name(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address), _PREFIX), strict=False))
