"""What arrives from outside: doors, their guards, and how bodies are read."""
