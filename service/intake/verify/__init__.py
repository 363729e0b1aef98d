"""Who sent this delivery: one file per signature scheme, and the registry that builds them from YAML."""
