"""When something is due, and what becomes of each due moment."""
