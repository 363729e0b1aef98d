"""Where runs execute: worker processes on this machine."""
