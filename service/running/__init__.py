"""Runs are claimed, executed in worker processes, and ended."""
