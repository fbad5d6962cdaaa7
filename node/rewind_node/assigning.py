"""Who of a consumer group gets which partitions: balanced, and with as few moves as balance allows.

Every member gets as many partitions as any other, or one less. A member keeps what it has up to that share; what is
left over goes, in order, to those who have the least. Nothing else decides, so asking twice gives the same answer.
"""

from collections.abc import Iterable, Mapping, Sequence


def assign(partitions: Iterable[int], members: Mapping[bytes, Sequence[int]]) -> dict[bytes, list[int]]:
    """Return each member's share of the partitions. `members`: what each has now, those first who joined first."""
    if not members:
        return {}
    left = dict.fromkeys(partitions)
    share, more = divmod(len(left), len(members))
    kept: dict[bytes, list[int]] = {}
    # Those who have the most may keep one more than others, as many of them as the sum allows.
    for member in sorted(members, key=lambda member: -len(members[member])):
        room = share + (1 if more else 0)
        kept[member] = [partition for partition in sorted(members[member]) if partition in left][:room]
        for partition in kept[member]:
            del left[partition]
        if len(kept[member]) > share:
            more -= 1
    for partition in sorted(left):
        poorest = min(members, key=lambda member: len(kept[member]))
        kept[poorest].append(partition)
    return {member: sorted(kept[member]) for member in members}
