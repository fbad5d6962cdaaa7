"""Names, limits and slots: what every node and client must agree on before anything is stored.

The rules are checked on both sides: a client so that a mistake is told at once, a node because it trusts no frame.
Every limit of the protocol stands here with the reason for its size.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from rewind_cluster.errors import InvalidArgumentError, TooLargeError

CONTEXT_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
HASH_TAG = re.compile(r"\{([^}]+)\}")

STREAM_BYTES_MAX = 255  # with partition, context and version it stays well below LMDB's key limit of 511 bytes
TYPE_BYTES_MAX = 255
METADATA_BYTES_MAX = 64 * 1024
DATA_BYTES_MAX = 1024 * 1024  # per event; larger payloads belong in a blob store, with their address in the event
APPEND_EVENTS_MAX = 4096  # the counter of a timestamp has 12 bits
APPEND_BYTES_MAX = 8 * 1024 * 1024
MESSAGE_BYTES_MAX = 16 * 1024 * 1024  # one frame: an append of the largest size with room for its headers
PARTITIONS_MAX = 1024
CLUSTER_ID_SHOWN_MAX = 64  # characters of a stranger's that a text repeats: ours have 32, and texts are short
TYPES_MAX = 256  # that one filter names: with the longest names 64 KiB, and a context rarely has more
CONTEXTS_MAX = 10_000  # all of them are in every node's memory and in the map

SLOTS = 1 << 16
NO_STREAM = 0
CONTROL = 0  # the partition of the control group
DEFAULT_CONTEXT = "default"


def check_context_name(name: object) -> str:
    """Return `name` if it may name a context, else raise `InvalidArgumentError`."""
    if not isinstance(name, str) or not CONTEXT_NAME.match(name):
        raise InvalidArgumentError(f"context name {name!r} is not 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return name


def check_stream_name(name: object) -> str:
    """Return `name` if it may name a stream, else raise `InvalidArgumentError`."""
    return _check_text("stream name", name, STREAM_BYTES_MAX)


def are_plain_names(names: Sequence[str]) -> bool:
    """Return whether all may name streams and none has a tag, at the price of one look; False says nothing."""
    joined = "".join(names)
    return (
        joined.isascii()
        and joined.isprintable()
        and "{" not in joined
        and 0 < min(map(len, names)) <= max(map(len, names)) <= STREAM_BYTES_MAX
    )


def check_type_name(name: object) -> str:
    """Return `name` if it may name a type of event, else raise `InvalidArgumentError`."""
    return _check_type(name) if type(name) is str else _check_text("event type", name, TYPE_BYTES_MAX)


@lru_cache(maxsize=4096)  # an application has few types and sends each of them all the time
def _check_type(name: str) -> str:
    return _check_text("event type", name, TYPE_BYTES_MAX)


def _check_text(what: str, text: object, bytes_max: int) -> str:
    if type(text) is str and text.isascii() and text.isprintable() and 0 < len(text) <= bytes_max:
        return text  # nearly all are: ASCII without control characters
    if not isinstance(text, str) or not text:
        # What it is instead may be a stranger's: too deep, or too long, to be shown.
        shown = "empty" if text == "" else f"of type {type(text).__name__}"
        raise InvalidArgumentError(f"{what} is {shown}, not a text of 1 to {bytes_max} bytes")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{what} {text[:bytes_max]!r} cannot be encoded as UTF-8") from None
    if size > bytes_max:
        raise TooLargeError(f"{what} of {size} bytes is over the limit of {bytes_max}")
    if CONTROL_CHARACTER.search(text):
        raise InvalidArgumentError(f"{what} {text!r} contains a control character")
    return text


def slot(stream: str) -> int:
    """Return the slot of a stream, 0 to 65,535: the low 16 bits of the CRC-32 of its name, or of the `{tag}` in it."""
    if "{" in stream and (tag := HASH_TAG.search(stream)):
        stream = tag[1]
    return crc32(stream.encode()) & 0xFFFF
