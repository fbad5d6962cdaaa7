"""Tokens and checkpoints: how far a context has been seen, by partition, as plain text that may be kept anywhere.

    CLUSTER/CONTEXT/PARTITION:POSITION,PARTITION:POSITION,…

with the cluster's ID and decimal numbers. Both hold for the context they were made in alone. A token names the
partitions that somebody has seen something of. A checkpoint names all of them: what it left out would be read again
from the start, so a token is not taken for one. A checkpoint may be used as a token.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rewind.errors import InvalidArgument
from rewind_cluster.names import PARTITIONS_MAX
from rewind_cluster.wire import UINT_MAX

_FIELDS = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """What a token belongs to: a context, by number, of a cluster."""

    cluster_id: str
    context: int


def make_token(origin: Origin, positions: Mapping[int, int]) -> str:
    """Return the token that says: these positions have been seen."""
    places = ",".join(f"{partition}:{position}" for partition, position in sorted(positions.items()))
    return f"{origin.cluster_id}/{origin.context}/{places}"


def read_token(token: object, origin: Origin) -> dict[int, int]:
    """Return a token's positions by partition, or raise `InvalidArgument` if it is none, or another context's."""
    if not isinstance(token, str):
        raise InvalidArgument(f"token {token!r} is not a text; give one that an append or a read returned")
    return _read(f"token {token!r}", token, origin)


def read_checkpoint(checkpoint: str, origin: Origin, partitions: Collection[int]) -> dict[int, int]:
    """Return a checkpoint's positions, or raise `InvalidArgument` if it is not one of exactly these partitions."""
    what = f"checkpoint {checkpoint!r}"
    positions = _read(what, checkpoint, origin)
    if positions.keys() != set(partitions):
        raise InvalidArgument(
            f"{what} does not say where each partition of the context stands; give one that a subscription or "
            "read_all returned"
        )
    return positions


def _read(what: str, text: str, origin: Origin) -> dict[int, int]:
    fields = text.rsplit("/", _FIELDS - 1)
    if len(fields) != _FIELDS or not _is_number(fields[1]):
        raise InvalidArgument(f"{what} cannot be read; give one as it was returned")
    cluster_id, context, places = fields
    if cluster_id != origin.cluster_id:
        raise InvalidArgument(f"{what} is one of cluster {cluster_id}, and this is {origin.cluster_id}")
    if int(context) != origin.context:
        raise InvalidArgument(f"{what} is one of context number {context}, and this is {origin.context}")
    return dict(_read_place(what, place) for place in places.split(",") if place)


def _read_place(what: str, place: str) -> tuple[int, int]:
    partition, _, position = place.partition(":")
    if not (_is_number(partition) and _is_number(position)):
        raise InvalidArgument(f"{what} cannot be read: {place!r} is no PARTITION:POSITION")
    if int(partition) > PARTITIONS_MAX or int(position) > UINT_MAX:
        raise InvalidArgument(f"{what} cannot be read: {place!r} is out of range")
    return int(partition), int(position)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(UINT_MAX))
