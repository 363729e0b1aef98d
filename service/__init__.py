"""The Millrace service: doors for events, the store, the engine, and the command line."""
