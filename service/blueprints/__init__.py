"""Blocks and pipelines to begin with."""
