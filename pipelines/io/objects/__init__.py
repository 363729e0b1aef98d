"""Objects in buckets: one connector for each kind of store, over one base."""
