"""What the service tells of itself: the ends of runs as events, and as CloudEvents to addresses outside."""
