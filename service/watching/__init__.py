"""Sensors are ticked, and what they find is recorded."""
