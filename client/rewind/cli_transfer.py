"""`rewind import` and `rewind export`: whole contexts as JSON lines. `rewind.lines` has the format."""

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rewind.blocking import Store
from rewind.cli_options import Options, pass_options, print_json
from rewind.errors import RewindError
from rewind.importing import Counts, Importer, count_lines
from rewind.lines import dump, export_fields
from rewind.readers import EventReader

PROGRESS_S = 0.2  # five times a second
INTERRUPT_PATIENCE_S = 1.0  # for what is under way when Ctrl-C comes
READERS_AHEAD = 16  # streams whose first chunk is on its way while another is printed
INTERRUPTED = 130


class IncompleteError(RewindError):
    """An import that did not take in everything."""


@click.command("import")
@click.argument("file", metavar="FILE.jsonl")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="N events a second at most.")
@pass_options
def import_events(options: Options, file: str, rate: float | None) -> int:
    """Append the events in FILE.jsonl ("-" for stdin).

    Each stream keeps its order. One event per line: {"stream", "type", "data" or "data_base64", "time"?, "id"?,
    "metadata"?}. Importing the same file again changes nothing, so one that was interrupted is simply started again.
    """
    with _opened(file) as descriptor:
        return asyncio.run(_import(options, descriptor, rate))


@contextmanager
def _opened(file: str) -> Iterator[int]:
    if file == "-":
        yield sys.stdin.fileno()
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _import(options: Options, descriptor: int, rate: float | None) -> int:
    total = count_lines(descriptor)
    began_s = time.monotonic()
    async with options.async_store() as store:
        importer = Importer(store, rate, _report_conflict)
        shown = asyncio.create_task(_show_progress(options, importer.counts, total))
        error: RewindError | None = None
        interrupted = False
        try:
            await importer.run(descriptor)
        except RewindError as raised:
            error = raised
        except asyncio.CancelledError:
            interrupted = True
            await store.close(INTERRUPT_PATIENCE_S)
        shown.cancel()
        await asyncio.gather(shown, return_exceptions=True)
    _print_summary(options, importer.counts, time.monotonic() - began_s)
    return _end(importer.counts, error, interrupted=interrupted)


def _end(counts: Counts, error: RewindError | None, *, interrupted: bool) -> int:
    if interrupted:
        click.echo(
            f"rewind: interrupted: {counts.events} events acknowledged; run the same command again to go on", err=True
        )
        return INTERRUPTED
    if error is not None:
        raise IncompleteError(f"{error}; {counts.events} events before it are acknowledged, nothing after it was sent")
    if counts.conflicts:
        raise IncompleteError(
            f"{len(counts.conflicts)} of {counts.streams} streams hold other events and were left alone from there on; "
            "import into another context, or remove them from the file"
        )
    return 0


def _report_conflict(stream: str, version: int) -> None:
    click.echo(f"rewind: stream {stream!r} holds other events; it is at version {version}", err=True)


def _print_summary(options: Options, counts: Counts, seconds: float) -> None:
    if options.as_json:
        print_json(
            {
                "kind": "summary",
                "events": counts.events,
                "streams": counts.streams,
                "appended": counts.appended,
                "already_present": counts.already_present,
                "seconds": round(seconds, 3),
                "write_gap_ms": round(counts.write_gap_s * 1000, 1),
            }
        )
    else:
        click.echo(
            f"{counts.events} events in {counts.streams} streams: {counts.appended} appended, "
            f"{counts.already_present} already there; "
            f"{seconds:.1f} s, longest write gap {counts.write_gap_s * 1000:.0f} ms"
        )


async def _show_progress(options: Options, counts: Counts, total: int | None) -> None:
    if options.as_json:
        while True:
            print_json({"kind": "progress", "events": counts.events, "total": total})
            await asyncio.sleep(PROGRESS_S)
    console = Console(stderr=True)
    columns = (
        TextColumn("importing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.0f}/s"),
        TimeElapsedColumn(),
    )
    progress = Progress(*columns, console=console, transient=True) if console.is_terminal else None
    began_s = time.monotonic()
    with progress or nullcontext():
        task = progress.add_task("import", total=total, speed=0.0) if progress else None
        while True:
            if progress is not None and task is not None:
                speed = counts.events / max(time.monotonic() - began_s, PROGRESS_S)
                progress.update(task, completed=counts.events, speed=speed)
            await asyncio.sleep(PROGRESS_S)


@click.command()
@pass_options
def export(options: Options) -> None:
    """Print the context's events as JSON lines.

    Stream by stream, as `import` takes them.
    """
    with options.store() as store:
        for reader in _readers(store):
            for event in reader:
                sys.stdout.write(dump(export_fields(event)) + "\n")
        sys.stdout.flush()


def _readers(store: Store) -> Iterator[EventReader]:
    ahead: deque[EventReader] = deque()
    for name in store.streams():
        ahead.append(store.read(name))
        if len(ahead) > READERS_AHEAD:
            yield ahead.popleft()
    yield from ahead
