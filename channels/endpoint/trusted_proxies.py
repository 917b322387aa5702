"""The client behind trusted proxies: its address and its scheme, from the headers that proxies add.

    endpoint = Endpoint(sockets=..., http=pages, trusted_proxies=["127.0.0.1", "10.0.0.0/8"])

If a trusted proxy sends a request, the client's address is the last entry of `X-Forwarded-For` that is not a trusted
proxy, and its scheme is the last entry of `X-Forwarded-Proto`. For all other requests, the endpoint ignores these
headers, because a client can forge them. `X-Forwarded-Host` is always ignored, because nginx passes on a forged one;
proxies pass on `Host` instead.

*pure*. Only endpoints with this option load this module.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any, Final, TypeAlias

from actors.errors import InvalidOption
from channels.connect_info import PeerData

__all__ = ["Address", "TrustedProxies", "parse_address"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# The length of the prefix ::ffff:0:0 before an IPv4 address.
_MAPPED_PREFIX: Final = 96
# The entry for proxies that connect through a Unix socket, and so have no address. nginx has the same name for it.
_UNIX: Final = "unix:"
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_OF_WEBSOCKETS: Final = {"http": "ws", "https": "wss"}


class TrustedProxies:
    """The addresses and networks of trusted proxies.

        >>> proxies = TrustedProxies(["10.0.0.0/8"])
        >>> proxies.address_of("10.1.2.3", ["forged, 198.51.100.1, 10.9.9.9"])
        '198.51.100.1'
        >>> proxies.address_of("203.0.113.7", ["forged"])
        '203.0.113.7'

    Args:
        proxies: addresses and networks. `unix:` trusts each connection through a Unix socket.

    Raises:
        InvalidOption: an entry is neither an address nor a network.
    """

    def __init__(self, proxies: Sequence[str]) -> None:
        expected = 'a list of addresses or networks: ["127.0.0.1", "10.0.0.0/8"]'
        if isinstance(proxies, str) or not isinstance(proxies, Sequence):
            raise InvalidOption("Endpoint", "trusted_proxies", proxies, expected)
        networks = []
        for each in proxies:
            try:
                # Convert to text first, because `ip_network` accepts the number 1 as an address.
                if each != _UNIX:
                    networks.append(_network(str(each)))
            except ValueError:
                raise InvalidOption("Endpoint", "trusted_proxies", each, expected) from None
        self._networks = tuple(networks)
        self._trusts_unix = _UNIX in proxies

    def address_of(self, peer: str | None, forwarded: Iterable[str]) -> str | None:
        """Return the address of the client, or `peer` if no trusted proxy sent the request.

        Args:
            peer: the address of the other end of the connection; None if the connection has no address.
            forwarded: the values of all `X-Forwarded-For` headers, in order.
        """
        if not self._trusts(peer):
            return peer
        found = None if peer is None else parse_address(peer)
        for entry in reversed(",".join(forwarded).split(",")):
            before = parse_address(entry)
            if before is None:
                # This entry is not an address. Take the trusted proxy that wrote the entry for the client, because a
                # client can forge all entries before this one.
                break
            found = before
            if not self._is_proxy(found):
                break
        return None if found is None else str(found)

    def scheme_of(self, peer: str | None, forwarded: Iterable[str], scheme: str) -> str:
        """Return the scheme that the client used, `http` or `https`.

        Args:
            peer: as for `address_of`.
            forwarded: the values of all `X-Forwarded-Proto` headers, in order.
            scheme: the scheme of the connection, which is the result if no trusted proxy sent the request.
        """
        if not self._trusts(peer):
            return scheme
        last = ",".join(forwarded).rpartition(",")[2].strip().lower()
        return _SCHEMES.get(last, scheme)

    def seen(
        self, peer: PeerData | None, scheme: str, headers: Iterable[tuple[str, str]]
    ) -> tuple[PeerData | None, str]:
        """Return the client and the scheme of a request whose header names are in lower case."""
        before = None if peer is None else peer.address
        fields = list(headers)
        address = self.address_of(before, _values(fields, "x-forwarded-for"))
        scheme = self.scheme_of(before, _values(fields, "x-forwarded-proto"), scheme)
        if address is None or address == before:
            return peer, scheme
        # The proxies do not pass the port on.
        return PeerData(address=address, port=0), scheme

    def rewritten(self, scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the scope of an ASGI request as the client sent it: with its address and its scheme."""
        client = scope.get("client")
        peer = client[0] if client else None
        if not self._trusts(peer):
            return scope
        fields = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ]
        address = self.address_of(peer, _values(fields, "x-forwarded-for"))
        before = scope.get("scheme", "http")
        scheme = self.scheme_of(
            peer, _values(fields, "x-forwarded-proto"), _SCHEMES.get(before, before)
        )
        if scope["type"] == "websocket":
            scheme = _OF_WEBSOCKETS.get(scheme, scheme)
        seen = client if address is None or address == peer else (address, 0)
        return {**scope, "client": seen, "scheme": scheme}

    def _trusts(self, peer: str | None) -> bool:
        """Return True if the other end of a connection is a trusted proxy."""
        if peer is None:
            return self._trusts_unix
        address = parse_address(peer)
        return address is not None and self._is_proxy(address)

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _values(fields: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value for each, value in fields if each == name]


def _network(text: str) -> Network:
    """Return a network of proxies, in the form in which `parse_address` returns its addresses."""
    network = ipaddress.ip_network(text)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))


def parse_address(text: str) -> Address | None:
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
