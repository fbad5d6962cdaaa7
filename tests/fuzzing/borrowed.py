"""What other folders' tests have made for themselves: clusters, machines under an engine, a client without sockets.

They are loaded by their paths, because folders of tests are no packages.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).parents[1]


def _load(path: str) -> ModuleType:
    name = f"fuzzing_{path.replace('/', '_')}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, TESTS / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


core = _load("core/conftest")
store = _load("store/conftest")
fake_cluster = _load("client/fake_cluster")
lab = _load("client/lab")
