"""Network addresses as options write them: `host:port`, IPv6 in brackets, `[::1]:7070`.

An address to listen on names an interface by its IP address, because ZeroMQ binds nothing else. An address to
advertise or to dial may be a host name, which is resolved anew at each connection. Every rule broken raises
`ValueError` with text that reads well after the name of the option.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

PORT_MAX = 65_535
HOST_NAME_MAX = 253
HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")  # `_` is no rule of DNS but common in container networks


def split(address: str) -> tuple[str, int]:
    """Return host (without brackets) and port of a well-formed address."""
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{address!r} is not HOST:PORT, for example 127.0.0.1:7070 or [::1]:7070")
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= PORT_MAX):
        raise ValueError(f"{address!r} has no port from 1 to {PORT_MAX}")
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(address, host[1:-1]), int(port)
    if ":" in host:
        raise ValueError(f"{address!r} needs brackets around its IPv6 address, for example [::1]:7070")
    return host, int(port)


def listening(address: str) -> str:
    """Return the address in its canonical form if a node may listen on it."""
    host, port = split(address)
    host = {"localhost": "127.0.0.1", "*": "0.0.0.0"}.get(host, host)  # noqa: S104 - asked for; options.py wants --insecure
    if _ip(host) is None:
        raise ValueError(f"{address!r} is no IP address to listen on; a name belongs into what is advertised")
    return join(host, port)


def dialled(address: str) -> str:
    """Return the address in its canonical form if others may dial it."""
    host, port = split(address)
    if is_wildcard(host):
        raise ValueError(f"{address!r} is a wildcard, which nobody can dial")
    if _ip(host) is None and not _is_host_name(host):
        raise ValueError(f"{address!r} is neither an IP address nor a host name")
    return join(host.lower(), port)


def join(host: str, port: int) -> str:
    """Return `host:port`, with brackets where the host is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_wildcard(host: str) -> bool:
    """Whether listening on this host means listening on every interface."""
    address = _ip(host)
    return host == "*" or (address is not None and address.is_unspecified)


def is_loopback(host: str) -> bool:
    """Whether only programs on the same machine can reach this host, which is an IP address."""
    address = _ip(host)
    return address is not None and address.is_loopback


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _ipv6(address: str, host: str) -> str:
    parsed = _ip(host)
    if not isinstance(parsed, IPv6Address):
        raise ValueError(f"{address!r} has no IPv6 address between its brackets")  # noqa: TRY004 - the value is wrong
    return str(parsed)


def _is_host_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    # An all-numeric last label is a mistyped IPv4 address, never a name (RFC 1123, section 2.1).
    mistyped = labels[-1].isdigit()
    # ZeroMQ takes no name that begins with anything but a letter or a digit, and says so only at the connect.
    return len(host) <= HOST_NAME_MAX and all(map(HOST_LABEL.match, labels)) and not mistyped and host[0] != "_"
