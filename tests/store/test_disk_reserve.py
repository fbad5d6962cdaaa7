"""How much of a disk appends leave alone."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from rewind_node.disk_reserve import DiskReserve

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "reserve"),
    [(64 * MIB, 8 * MIB), (160 * MIB, 8 * MIB), (1000 * MIB, 50 * MIB), (5120 * MIB, 256 * MIB), (1 << 42, 256 * MIB)],
)
def test_the_reserve_is_a_twentieth_within_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, reserve: int
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=size // 4096, f_bavail=0, f_frsize=4096))

    assert DiskReserve(tmp_path).reserve_bytes() == reserve


@pytest.mark.parametrize(("free", "breached"), [(8 * MIB, False), (8 * MIB - 4096, True), (0, True)])
def test_the_reserve_is_breached_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, breached: bool
) -> None:
    status = SimpleNamespace(f_blocks=64 * MIB // 4096, f_bavail=free // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: status)

    assert DiskReserve(tmp_path).is_breached() is breached


def test_free_space_is_that_of_the_directory_s_file_system(tmp_path: Path) -> None:
    assert 0 < DiskReserve(tmp_path).free_bytes() < 1 << 60
