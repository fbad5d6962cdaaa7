"""`python node_program.py BUG run …`: a node with a planted bug."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is started by its path, with nothing of the tests in reach

from chaos.plants import having
from rewind_node.cli import main

if __name__ == "__main__":
    bug, *sys.argv[1:] = sys.argv[1:]
    with having(bug):
        main()
