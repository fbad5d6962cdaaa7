import sys
from pathlib import Path
from chaos.plan import KINDS, available, draw, draw_each
from chaos.run import Scratch, Shape, missing_means, play
seed=int(sys.argv[1]); seconds=float(sys.argv[2])
with Scratch(Path("/tmp")) as directory:
    missing = missing_means(directory)
    print(missing)
    kinds = available(KINDS, missing)
    if len(sys.argv)>3: kinds=[k for k in kinds if k.name in sys.argv[3:]]
    faults = draw(seed, seconds, kinds) if seconds else draw_each(seed, kinds)
    for f in faults: print(f"{f.at_s:.1f} {f.kind.name} {f.for_s:.1f}")
    work = directory/"run"; work.mkdir()
    try:
        verdict, world = play(seed, faults, Shape(), work, missing, lambda t: print(t, flush=True))
        for f in verdict.findings: print(f.kind, f.text[:1500])
        print(verdict.told.counts, verdict.told.operations, verdict.serves_s, verdict.caught_up_s, verdict.check_s, verdict.latent)
    finally:
        import shutil
        shutil.rmtree("/tmp/cz/last", ignore_errors=True); shutil.copytree(work, "/tmp/cz/last", ignore=lambda d,n:[x for x in n if x.endswith((".img",".mdb",".clock"))])
