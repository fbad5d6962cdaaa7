"""Deterministic simulation: whole clusters of the shipped node core and client session, one run per seed."""
