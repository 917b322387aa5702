"""A limit on the number of clients with the same network address. It also works behind proxies.

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

# The prefix length of the smallest IPv6 network that a provider gives to a customer. One client can use all addresses
# of this network.
_PREFIX = 64


def _check_proxies(limit: AddressLimit, attribute: Any, value: Any) -> None:
    expected = 'a list of addresses or networks: ["127.0.0.1", "10.0.0.0/8"]'
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidOption("AddressLimit", "trusted_proxies", value, expected)
    for each in value:
        try:
            # Convert to text first, because `ip_network` accepts the number 1 as an address.
            ipaddress.ip_network(str(each))
        except ValueError:
            raise InvalidOption("AddressLimit", "trusted_proxies", each, expected) from None


@frozen
class AddressLimit:
    """A limit on the number of clients with the same network address.

        AddressLimit(max_clients=50, trusted_proxies=["127.0.0.1", "10.0.0.0/8"])

    WebSockets and polling sessions count together. A client beyond the limit gets HTTP 429. Many users may share one
    address, for example behind the router of an office or of a mobile network. So by default, an endpoint does not
    limit the clients of an address. The addresses of an IPv6 network with the prefix length 64 count as one address.

    Args:
        max_clients: the maximum number of clients with the same address.
        trusted_proxies: the addresses and networks of your own proxies. If a trusted proxy sends a request, the
            client's address is the last entry of `X-Forwarded-For` that is not a trusted proxy. For all other requests,
            the endpoint ignores this header, because a client can forge it.

    Raises:
        InvalidOption: `max_clients` is not a whole number above 0, or an entry of `trusted_proxies` is neither an
            address nor a network.
    """

    max_clients: int = field(validator=whole)
    trusted_proxies: Sequence[str] = field(default=(), validator=_check_proxies)

    def table(self) -> Addresses:
        """Return an empty table for one run of an endpoint."""
        return Addresses(self.max_clients, map(ipaddress.ip_network, self.trusted_proxies))


class Addresses:
    """A table with the number of clients of each address.

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
        max_clients: the maximum number of clients with the same address.
        trusted: the networks of trusted proxies.
    """

    def __init__(self, max_clients: int, trusted: Iterable[Network]) -> None:
        self._max_clients = max_clients
        self._trusted = tuple(trusted)
        self._clients: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def key(self, peer: str | None, forwarded: Iterable[str]) -> str | None:
        """Return the address under which the table counts a client; None if the connection has no address.

        For an IPv6 client, the result is a network.

        Args:
            peer: the address of the other end of the connection; None if the connection has no address.
            forwarded: the values of all `X-Forwarded-For` headers, in order.
        """
        found = None if peer is None else _parse(peer)
        if found is None:
            return peer
        if self._trusted and self._is_trusted(found):
            for entry in reversed(",".join(forwarded).split(",")):
                before = _parse(entry)
                if before is None:
                    # This entry is not an address. Count the client under the address of the trusted proxy that wrote
                    # the entry, because a client can forge all entries before this one.
                    break
                found = before
                if not self._is_trusted(found):
                    break
        return _name(found)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def is_full(self, key: str) -> bool:
        """Return True if an address already has the maximum number of clients."""
        return self._clients.get(key, 0) >= self._max_clients

    def enter(self, key: str) -> bool:
        """Count a client and return True. If the address is full, count nothing and return False."""
        clients = self._clients.get(key, 0)
        if clients >= self._max_clients:
            return False
        self._clients[key] = clients + 1
        return True

    def leave(self, key: str) -> None:
        """Subtract a client that `enter` has counted."""
        clients = self._clients[key] - 1
        if clients:
            self._clients[key] = clients
        else:
            del self._clients[key]


def _parse(text: str) -> Address | None:
    """Return the address in a text; None if the text contains no address. A port may follow the address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # An IPv6 socket that also accepts IPv4 clients reports their addresses as IPv4-mapped IPv6 addresses.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _name(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address), _PREFIX), strict=False))
