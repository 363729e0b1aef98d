"""How each kind of block executes."""
