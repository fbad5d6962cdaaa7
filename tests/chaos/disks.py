"""The disk of each node, and what goes wrong with it.

    LoopDisk    an ext4 of its own in a file, mounted through a loop device: fills, freezes, loses what was not synced
    MemoryDisk  a small tmpfs: fills
    PlainDisk   a directory, where nothing may be mounted

A power cut is ext4's own way to shut down (`EXT4_IOC_SHUTDOWN` without flushing its journal): from then on nothing
reaches the device, and what comes back at the next mount is what was durable. Bits of a data file can be flipped, and
its end cut off, on any disk, while the node is down.
"""

import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from chaos.commands import CommandError, run, try_all

DISK_BYTES = 384 << 20  # a run of some minutes writes 100 MB on each node
EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING = struct.pack("=I", 2)
FILLER = "filler"
DATA_FILE = Path("shard-0") / "data.mdb"


class PlainDisk:
    """A directory at `path`."""

    kind = "plain"

    def __init__(self, path: Path) -> None:
        self.path = path

    def attach(self) -> None:
        """Make it usable."""
        self.path.mkdir(parents=True, exist_ok=True)

    def detach(self) -> None:
        """Let go of it; nothing may use it any more."""

    def thaw(self) -> None:
        """Let writes go on, if they wait."""

    @property
    def data_file(self) -> Path:
        """Where the node keeps its data."""
        return self.path / DATA_FILE

    # A full disk.

    def fill(self, left_bytes: int) -> None:
        """Leave only so many bytes free."""
        status = os.statvfs(self.path)
        taken_bytes = status.f_bavail * status.f_frsize - left_bytes
        if taken_bytes > 0:
            with (self.path / FILLER).open("wb") as file, _unless_full():
                os.posix_fallocate(file.fileno(), 0, taken_bytes)

    def free(self) -> None:
        """Give the space back, for good: a power cut that comes next must not bring the file back."""
        (self.path / FILLER).unlink(missing_ok=True)
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    # Damage, while the node is down.

    def flip_bits(self, random: Random, count: int, marker: bytes) -> list[int]:
        """Flip bits and return where: most beside what is marked, the others anywhere but in the first two pages."""
        data = bytearray(self.data_file.read_bytes())
        marked = find_all(data, marker)
        places = []
        for _ in range(count):
            if marked and random.random() < 0.8:
                place = random.choice(marked) + random.randrange(-100, 150)
            else:
                place = random.randrange(2 * os.sysconf("SC_PAGESIZE"), len(data))
            if 0 <= place < len(data):
                data[place] ^= 1 << random.randrange(8)
                places.append(place)
        self.data_file.write_bytes(data)
        return places

    def truncate(self, share: float) -> int:
        """Cut the data file to a share of its length, and return how long it is then."""
        length = int(self.data_file.stat().st_size * share)
        os.truncate(self.data_file, length)
        return length


class MemoryDisk(PlainDisk):
    """A small file system in memory."""

    kind = "tmpfs"

    def attach(self) -> None:
        """Mount it."""
        super().attach()
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "rewind-chaos", str(self.path))

    def detach(self) -> None:
        """Unmount it: what it held is gone."""
        try_all(["umount", str(self.path)])


class LoopDisk(PlainDisk):
    """An ext4 in the file `image`."""

    kind = "ext4"

    def __init__(self, path: Path, image: Path) -> None:
        super().__init__(path)
        self._image = image
        self.frozen = False

    def attach(self) -> None:
        """Mount it; the first time, make it."""
        super().attach()
        if not self._image.exists():
            with self._image.open("wb") as file:
                file.truncate(DISK_BYTES)
            run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0", str(self._image))
        run("mount", "-o", "loop", str(self._image), str(self.path))

    def detach(self) -> None:
        """Unmount it."""
        self.thaw()
        try_all(["umount", str(self.path)])

    def cut_power(self) -> None:
        """Let nothing reach the device any more."""
        directory = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, WITHOUT_FLUSHING)
        finally:
            os.close(directory)

    def restore_power(self) -> None:
        """Mount what was durable. Nothing may use the disk any more."""
        run("umount", str(self.path))
        self.attach()

    def freeze(self) -> None:
        """Let every write wait."""
        run("fsfreeze", "--freeze", str(self.path))
        self.frozen = True

    def thaw(self) -> None:
        """Let them go on."""
        if self.frozen:
            run("fsfreeze", "--unfreeze", str(self.path))
            self.frozen = False


@contextmanager
def _unless_full() -> Iterator[None]:
    """Go on where a disk has turned out to be full already: its node writes, too."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def find_all(data: bytes | bytearray, marker: bytes) -> list[int]:
    """Return where a marker stands."""
    places, at = [], data.find(marker)
    while at >= 0:
        places.append(at)
        at = data.find(marker, at + 1)
    return places


def why_no_memory_disk(directory: Path) -> str:
    """Return why nothing can be mounted here; nothing if it can."""
    return _why_not(MemoryDisk(directory / "try-tmpfs"))


def why_no_loop_disk(directory: Path) -> str:
    """Return why there can be no disk that loses its power; nothing if there can be. Tries it, in a directory."""
    disk = LoopDisk(directory / "try-ext4", directory / "try.img")
    complaint = _why_not(disk)
    if complaint:
        return complaint
    try:
        disk.attach()
        disk.freeze()
        disk.thaw()
        (disk.path / "unsynced").write_bytes(b"gone")
        disk.cut_power()
        disk.restore_power()
        return "an unsynced file survives a power cut" if (disk.path / "unsynced").exists() else ""
    except (CommandError, OSError) as error:
        return str(error)
    finally:
        disk.detach()


def _why_not(disk: PlainDisk) -> str:
    try:
        disk.attach()
    except CommandError as error:
        return str(error)
    disk.detach()
    return ""


def clean(directory: Path) -> None:
    """Unmount whatever is mounted below a directory, frozen or not, and let go of its loop devices."""
    below = f"{directory}/"
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in reversed([path for path in mounted if path == str(directory) or path.startswith(below)]):
        try_all(["fsfreeze", "--unfreeze", path], ["umount", "--lazy", path])
    listed = subprocess.run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"],  # noqa: S607 - root's
                            capture_output=True, text=True, check=False)  # fmt: skip
    for line in listed.stdout.splitlines():
        device, _, image = line.partition(" ")
        if image.strip().startswith(below):
            try_all(["losetup", "--detach", device])
