"""The only SQL on our own tables. Rows leave as frozen values (see `values`)."""
