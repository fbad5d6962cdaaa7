"""Arguments as users give them, checked at the call: what is wrong is told before anything is sent."""

import math
from collections.abc import Callable, Iterable
from typing import Literal, ParamSpec, TypeVar

from rewind.errors import InvalidArgument, TooLarge
from rewind.tracing import Tracing
from rewind_cluster.client_messages import ANY_VERSION
from rewind_cluster.errors import InvalidArgumentError, TooLargeError
from rewind_cluster.groups import ATTEMPTS_MAX, REASON_CHARACTERS_MAX, check_group_name
from rewind_cluster.names import TYPES_MAX, check_context_name, check_stream_name, check_type_name
from rewind_cluster.wire import UINT_MAX

Consistency = Literal["linearizable", "any"]

TIMEOUT_MAX_S = 3600.0  # nodes take no deadline that is further ahead
RETRY_AFTER_MAX_S = 86_400.0  # what waits holds its stream up, and a place in the window
VERSION_MAX = UINT_MAX // 2  # far beyond any stream, and sums of two stay in 64 bits

P = ParamSpec("P")
T = TypeVar("T")


def in_own_errors(check: Callable[P, T]) -> Callable[P, T]:
    """Make a check of the shared rules raise this package's errors."""

    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return check(*args, **kwargs)
        except TooLargeError as error:
            raise TooLarge(f"{error}; nothing was sent") from None
        except InvalidArgumentError as error:
            raise InvalidArgument(f"{error}; nothing was sent") from None

    return checked


check_stream = in_own_errors(check_stream_name)
check_type = in_own_errors(check_type_name)
check_context = in_own_errors(check_context_name)
check_group = in_own_errors(check_group_name)


def check_timeout(timeout: object) -> int:
    """Return a timeout in seconds as microseconds."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise InvalidArgument(f"timeout {timeout!r} is not a number of seconds")
    if not (math.isfinite(timeout) and 0 < timeout <= TIMEOUT_MAX_S):
        raise InvalidArgument(f"timeout {timeout!r} is not between 0 and {TIMEOUT_MAX_S:.0f} seconds")
    return max(1, int(timeout * 1_000_000))


def check_expected(expected: object) -> int:
    """Return the version that an append expects."""
    if type(expected) is not int or not ANY_VERSION <= expected <= VERSION_MAX:
        raise InvalidArgument(f"expected {expected!r} is not a version: give ANY, NO_STREAM or a number from 1 on")
    return expected


def check_after(after: object) -> int:
    """Return the version after which to read."""
    if type(after) is not int or not 0 <= after <= VERSION_MAX:
        raise InvalidArgument(f"after {after!r} is not a version: give 0 or more")
    return after


def check_limit(limit: object) -> int | None:
    """Return how many events to read at most, None for all."""
    if limit is not None and (type(limit) is not int or not 0 <= limit <= VERSION_MAX):
        raise InvalidArgument(f"limit {limit!r} is not a number of events: give None for all, or 0 or more")
    return limit


def check_flag(what: str, flag: object) -> bool:
    """Return a flag, which must be True or False."""
    if type(flag) is not bool:
        raise InvalidArgument(f"{what} {flag!r} is not True or False")
    return flag


def check_prefix(prefix: object) -> str:
    """Return the prefix of names of streams, "" for all."""
    return "" if prefix == "" else check_stream(prefix)


def check_types(types: object) -> tuple[str, ...] | None:
    """Return the types of events to take, None for all."""
    if types is None:
        return None
    if isinstance(types, str | bytes) or not isinstance(types, Iterable):
        raise InvalidArgument(f"types {types!r} is no list of types: give several, or None for all")
    checked = tuple(dict.fromkeys(check_type(each) for each in types))
    if not 0 < len(checked) <= TYPES_MAX:
        raise InvalidArgument(f"types names {len(checked)} types: give 1 to {TYPES_MAX}, or None for all")
    return checked


def check_tracing(tracing: Tracing | None) -> Tracing | None:
    """Return who traces a store's appends, None for nobody."""
    if tracing is not None and not callable(getattr(tracing, "begin", None)):
        raise InvalidArgument(f"tracing {tracing!r} traces no appends: give a rewind.otel.Tracing, or None")
    return tracing


def check_fresh(consistency: object) -> bool:
    """Return whether a consistency asks for the newest state."""
    if consistency not in ("linearizable", "any"):
        raise InvalidArgument(f'consistency {consistency!r} is neither "linearizable" nor "any"')
    return consistency == "linearizable"


def check_max_attempts(max_attempts: object) -> int:
    """Return how often an event of a group may fail."""
    if type(max_attempts) is not int or not 1 <= max_attempts <= ATTEMPTS_MAX:
        raise InvalidArgument(f"max_attempts {max_attempts!r} is not a number from 1 to {ATTEMPTS_MAX}")
    return max_attempts


def check_retry_after(retry_after: object) -> int:
    """Return a delay in seconds as microseconds."""
    if isinstance(retry_after, bool) or not isinstance(retry_after, int | float):
        raise InvalidArgument(f"retry_after {retry_after!r} is not a number of seconds")
    if not 0 <= retry_after <= RETRY_AFTER_MAX_S:
        raise InvalidArgument(f"retry_after {retry_after!r} is not between 0 and {RETRY_AFTER_MAX_S:.0f} seconds")
    return int(retry_after * 1_000_000)


def check_reason(reason: object) -> str:
    """Return why an event is parked, cut to what is kept of it."""
    if not isinstance(reason, str):
        raise InvalidArgument(f"reason {reason!r} is not a text")
    return reason[:REASON_CHARACTERS_MAX]
