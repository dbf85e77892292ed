"""Which addresses are on the public internet, whatever form they are written in."""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Translates the IPv4 address in the last four bytes (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What the standard library takes for public, and is not: local NAT64 (RFC 8215), the deprecated IPv4-compatible
# and site-local addresses, IETF's own, 6to4 relays, and the address at which one cloud's machines ask who they are.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("64:ff9b:1::/48", "::/96", "fec0::/10", "3fff::/20", "192.0.0.0/24", "168.63.129.16/32")
)


def is_public(address: str) -> bool:
    """Whether anybody could be meant; of an address that carries another one, both must be public.

    >>> is_public("93.184.216.34"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1"), is_public("::1")
    (True, False, False, False)
    """
    plain = ipaddress.ip_address(address.partition("%")[0])
    carried = _carried(plain)
    if carried is not None:
        return is_public(str(carried))
    return (
        plain.is_global
        and not plain.is_multicast
        and not plain.is_reserved
        and not any(plain in network for network in _NOT_PUBLIC if network.version == plain.version)
    )


def _carried(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that is reached by an IPv6 one: mapped, 6to4, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
