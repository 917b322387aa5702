"""A limit on the number of clients with the same network address. It also works behind proxies.

    endpoint = Endpoint(
        sockets={"/socket": UserSocket},
        address_limit=AddressLimit(max_clients=50),
        trusted_proxies=["127.0.0.1"],
    )

*pure*. Only endpoints with this option load this module.
"""

from __future__ import annotations

import ipaddress

from attrs import field, frozen

from actors.arguments import whole
from channels.endpoint.trusted_proxies import Address, parse_address

__all__ = ["AddressLimit", "Addresses"]

# The prefix length of the smallest IPv6 network that a provider gives to a customer. One client can use all addresses
# of this network.
_PREFIX = 64


@frozen
class AddressLimit:
    """A limit on the number of clients with the same network address.

        AddressLimit(max_clients=50)

    WebSockets and polling sessions count together. A client beyond the limit gets HTTP 429. Many users may share one
    address, for example behind the router of an office or of a mobile network. So by default, an endpoint does not
    limit the clients of an address. The addresses of an IPv6 network with the prefix length 64 count as one address.
    Behind a proxy, set `Endpoint(trusted_proxies=)`. Otherwise all clients have the address of the proxy.

    Args:
        max_clients: the maximum number of clients with the same address.

    Raises:
        InvalidOption: `max_clients` is not a whole number above 0.
    """

    max_clients: int = field(validator=whole)

    def table(self) -> Addresses:
        """Return an empty table for one run of an endpoint."""
        return Addresses(self.max_clients)


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
    """

    def __init__(self, max_clients: int) -> None:
        self._max_clients = max_clients
        self._clients: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def key(self, address: str) -> str:
        """Return the address or the IPv6 network under which the table counts a client."""
        found = parse_address(address)
        return address if found is None else _name(found)

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


def _name(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address), _PREFIX), strict=False))
