"""What a growing cluster is told to append, and the document of what that cost."""

from itertools import pairwise, repeat
from pathlib import Path

from growth import EVENT_BYTES, GIGABYTE, sizes_until
from growth_document import Found, Step, write


def step(held: int, nodes_us: float, one_ms: float) -> Step:
    return Step(held, 30_000.0, nodes_us, 20.0, one_ms, 2 * one_ms, 100_000_000, 4_500_000_000)


def test_each_step_stands_in_its_line_and_what_they_come_to_below(tmp_path: Path) -> None:
    steps = [step(1000, 40.0, 2.0), step(2_000_000, 50.0, 2.2)]
    found = Found(256, 3.0, steps, [step(9_000_000, 9.0, 2.1)], 500_000.0, 1.6, 12.4, 0, "quiet")

    write(found, tmp_path / "GROWTH.md")
    text = (tmp_path / "GROWTH.md").read_text()

    assert "| 2,000,000 | 30,000 | 50 | 20 | 2.20 | 4.40 | 100 | 4.50 |" in text
    assert "| 9,000,000 | 30,000 | 9 |" in text
    assert "With 2,000,000 streams an event costs the nodes 1.25 times" in text
    assert "takes 1.10 times as long" in " ".join(text.split())
    assert "500,000 a second" in text
    assert "No partition elected a leader anew in these 12 minutes" in " ".join(text.split())
    assert "<svg" in (tmp_path / "GROWTH.svg").read_text()


def test_without_larger_appends_there_is_no_table_of_them(tmp_path: Path) -> None:
    write(Found(256, 3.0, [step(1000, 40.0, 2.0)]), tmp_path / "GROWTH.md")

    assert "a hundred events" not in (tmp_path / "GROWTH.md").read_text()


def test_stores_grow_in_equal_steps_whatever_an_event_takes_of_them() -> None:
    held = [1 * GIGABYTE]
    grown = []

    for events in sizes_until(9.0, lambda: held[0]):
        grown.append(held[0] / GIGABYTE)
        held[0] += events * EVENT_BYTES * 2  # more than is expected

    assert held[0] >= 9 * GIGABYTE
    assert len(grown) <= 4
    assert all(later > before for before, later in pairwise(grown))


def test_a_store_that_is_large_enough_is_left_alone() -> None:
    assert list(sizes_until(1.0, repeat(2 * GIGABYTE).__next__)) == []
