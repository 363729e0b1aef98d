"""Which triggers an event concerns, and what each makes of it."""
