"""Bugs of the client library: numbering, and what an answer means."""

from planted.plant import Change, Plant
from rewind.appending import Writer

PLANTS = (
    Plant(
        "retry numbered anew",
        "what is sent again gets a new number",
        "the leader cannot know it again, and takes it twice",
        3,
        ("crashes", "lossy"),
        (
            Change(
                Writer._next,
                """
                  if append.sequence in self.unsettled:
                +     del self.unsettled[append.sequence]
                +     append.sequence = self._next_sequence
                +     self._next_sequence += 1
                +     self.unsettled[append.sequence] = append
                      return append
                """,
            ),
        ),
    ),
    Plant(
        "open copy taken for a failed one",
        "OPEN, which says that nobody knows, is taken for a refusal",
        "an append is told to have failed though it stands in a log",
        4,
        ("crashes", "cuts"),
        (
            Change(
                Writer._refused,
                """
                - if code == Code.OPEN or code not in _KNOWN_CODES:
                + if code not in _KNOWN_CODES:
                """,
            ),
        ),
    ),
    Plant(
        "refusal final with a copy open",
        "a wrong version is told though another copy of the append may yet be taken",
        "an append that was surely refused takes effect",
        4,
        ("stragglers",),
        (
            Change(
                Writer._refused,
                """
                - if logged or not append.open:
                + if True:
                """,
            ),
        ),
    ),
)
