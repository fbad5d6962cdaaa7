"""The words of a command: replicas, settings, and which of the messages under way are meant."""

import re
from collections.abc import Sequence

from scenarios.wording import ALL_KINDS, VOTE_KINDS, kind_of

from rewind_cluster.raft_messages import Envelope, ReplicaId

ROUTE = re.compile(r"(n\d+)?(<?->)(n\d+)?")


class ScriptError(Exception):
    """A command makes no sense: a mistake in the script, not in what it is about."""


def number_of(name: str) -> ReplicaId:
    return ReplicaId(int(name.removeprefix("n")))


def split_words(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separate plain words from settings of the form key=value, which `with` may introduce."""
    settings = dict(word.split("=") for word in words if "=" in word)
    return [word for word in words if "=" not in word and word != "with"], settings


def links_of(routes: Sequence[str]) -> list[tuple[ReplicaId | None, ReplicaId | None]]:
    """Return the directed links that some routes name; None is anybody."""
    links = []
    for route in routes:
        match = ROUTE.fullmatch(route)
        if match is None:
            raise ScriptError(f"{route!r} is no route")
        sender, to = (number_of(name) if name else None for name in match.group(1, 3))
        links.append((sender, to))
        if match.group(2) == "<->":
            links.append((to, sender))
    return links


def select(envelopes: Sequence[Envelope], words: Sequence[str]) -> list[Envelope]:
    """Return the messages on any of the routes, of any of the kinds, and at most so many, that the words name."""
    words = [kind for word in words for kind in (VOTE_KINDS if word == "votes" else (word,))]
    kinds = {word for word in words if word in ALL_KINDS}
    counts = [int(word) for word in words if word.isdigit()]
    links = links_of([word for word in words if word not in ALL_KINDS and not word.isdigit()]) or [(None, None)]
    selected = [
        envelope
        for envelope in envelopes
        if (not kinds or kind_of(envelope.message) in kinds)
        and any(sender in {None, envelope.sender} and to in {None, envelope.to} for sender, to in links)
    ]
    return selected[: counts[0]] if counts else selected
