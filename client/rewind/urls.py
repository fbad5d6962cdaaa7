"""Where a cluster is: URLs, lists of addresses, and what can be wrong with them.

    rewind://HOST:PORT,HOST:PORT,…/CONTEXT?timeout=SECONDS

Hosts are names, IPv4 addresses or IPv6 addresses in brackets. The context and the timeout may be left out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from rewind.arguments import check_context, check_timeout
from rewind.errors import InvalidArgument
from rewind_cluster.names import DEFAULT_CONTEXT

SCHEME = "rewind"
TIMEOUT_DEFAULT_S = 10.0
ADDRESSES_MAX = 100  # a client needs one that is up; a hundred is a mistake
PORT_MAX = 65_535

# ZeroMQ takes no host that begins with anything but a letter or a digit, and nothing beyond ASCII.
_ADDRESS = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9_.-]*)):(?P<port>\d{1,5})\Z", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Target:
    """What to connect to: addresses as `host:port`, the context's name, and the timeout of calls."""

    addresses: tuple[str, ...]
    context: str
    timeout_us: int


def parse_target(where: object, context: str | None = None, timeout: float | None = None) -> Target:
    """Return the target in a URL or list of addresses; `context` and `timeout` in seconds override the URL's."""
    if isinstance(where, str) and "://" in where:
        addresses, url_context, url_timeout = _parse_url(where)
    else:
        addresses, url_context, url_timeout = parse_addresses(where), DEFAULT_CONTEXT, TIMEOUT_DEFAULT_S
    return Target(
        addresses,
        check_context(url_context if context is None else context),
        check_timeout(url_timeout if timeout is None else timeout),
    )


def parse_addresses(where: object) -> tuple[str, ...]:
    """Return the addresses in a list, or in a text with commas, each once and in order."""
    parts = where.split(",") if isinstance(where, str) else where
    if not isinstance(parts, Iterable):
        raise InvalidArgument(f"{where!r} is neither a rewind:// URL nor a list of HOST:PORT")
    addresses = tuple(dict.fromkeys(_parse_address(part) for part in parts))
    if not addresses:
        raise InvalidArgument("no address to connect to; give HOST:PORT of one node at least")
    if len(addresses) > ADDRESSES_MAX:
        raise InvalidArgument(f"{len(addresses)} addresses are over the limit of {ADDRESSES_MAX}")
    return addresses


def _parse_address(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidArgument(f"address {text!r} is not a text HOST:PORT")
    match = _ADDRESS.match(text.strip())
    if match is None:
        raise InvalidArgument(f"address {text!r} is not HOST:PORT, such as db1:7070, 10.0.0.7:7070 or [::1]:7070")
    if not 1 <= int(match["port"]) <= PORT_MAX:
        raise InvalidArgument(f"address {text!r} has a port outside 1 to {PORT_MAX}")
    host = f"[{match['ipv6']}]" if match["ipv6"] else match["host"]
    return f"{host}:{int(match['port'])}"


def _parse_url(url: str) -> tuple[tuple[str, ...], str, float]:
    # By hand: urllib takes several addresses, some of them in brackets, for one that is malformed.
    scheme, _, rest = url.partition("://")
    if scheme != SCHEME:
        raise InvalidArgument(f"URL {url!r} does not begin with {SCHEME}://")
    if "#" in rest or "@" in rest:
        raise InvalidArgument(f"URL {url!r} holds more than addresses, a context and options")
    rest, _, query = rest.partition("?")
    addresses, _, path = rest.partition("/")
    context = unquote(path.strip("/")) or DEFAULT_CONTEXT
    timeout = TIMEOUT_DEFAULT_S
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key != "timeout":
            raise InvalidArgument(f"URL {url!r} has the unknown option {key!r}; there is timeout=SECONDS")
        try:
            timeout = float(value)
        except ValueError:
            raise InvalidArgument(f"URL {url!r} has a timeout of {value!r}, which is no number of seconds") from None
    return parse_addresses(addresses), context, timeout
