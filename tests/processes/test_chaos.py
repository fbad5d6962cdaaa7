"""The short form of the chaos that `tox -e chaos` is made of: one cluster, one short fault of each kind, a fixed seed.

In order to mount disks and to have a network of its own it needs root, and what `.ci/run` installs. Where that is not
to be had it breaks what it can, and says what it could not.
"""

from pathlib import Path

import click
import pytest
from chaos import report
from chaos.machines import Scratch, Shape, missing_means
from chaos.plan import KINDS, available, draw_each
from chaos.run import play

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

SEED = 11
CALLS_MIN = 1000


def test_real_nodes_keep_every_promise_through_one_fault_of_each_kind(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    with Scratch(tmp_path_factory.getbasetemp()) as scratch:
        missing = missing_means(scratch)
        faults = draw_each(SEED, available(KINDS, missing))
        verdict, _ = play(SEED, faults, Shape(), scratch / "run", missing, click.echo)

        rows = report.rows_of(faults, verdict.told, verdict.findings, Shape().partitions)
        told = report.summary([report.run_as_json(SEED, faults, verdict, rows, 0.0)], missing)
        with capsys.disabled():
            click.echo("\n" + "\n".join(report.table(told)))

    found = [f"{finding.kind}: {finding.text}" for finding in verdict.findings]
    assert not found, "\n".join(found)
    assert len(rows) == len(faults), "each fault has been, and was healed"
    assert verdict.told.operations >= CALLS_MIN
    assert Path(scratch).exists() is False, "nothing is left behind"
