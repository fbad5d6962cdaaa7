"""What Rewind's nodes and clients must agree on, and consensus itself. See `cluster/README.md` for the map."""
