"""What the tests in `tests/fuzz` share: how long to search, what to search with, and what to search in."""
