"""`python -m rewind_node`: the same as `rewind-node`."""

from rewind_node.cli import main

if __name__ == "__main__":
    main()
