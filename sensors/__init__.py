"""Sensors watch outside systems: a tick takes a cursor and returns events and a new cursor."""
