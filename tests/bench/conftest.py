"""Makes the helpers of this folder, which is no package, and the programs of `deploy/benchmarks` importable."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "deploy" / "benchmarks")]
