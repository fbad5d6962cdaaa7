"""What applications have seen so far and may go on from: positions for `at_least`, and checkpoints."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """`positions`: acknowledged or read, by context and partition. `checkpoints`: those that were kept, by context."""

    positions: dict[tuple[int, int], int] = field(default_factory=dict)
    checkpoints: dict[int, list[str]] = field(default_factory=dict)

    def saw(self, context: int, partition: int, position: int) -> None:
        """Take in a position."""
        key = (context, partition)
        self.positions[key] = max(position, self.positions.get(key, 0))

    def keep(self, context: int, checkpoint: str) -> None:
        """Take in a checkpoint."""
        self.checkpoints.setdefault(context, []).append(checkpoint)

    def kept(self, context: int, choice: int) -> str | None:
        """Return one of the checkpoints, None as long as there is none."""
        checkpoints = self.checkpoints.get(context)
        return checkpoints[choice % len(checkpoints)] if checkpoints else None
