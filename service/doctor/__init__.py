"""`millrace doctor`: looks at everything the service depends on, and says what to do about each fault."""
