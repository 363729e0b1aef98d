"""Speed and memory, as ratios against a limit taken beside it in the same run: `make bench`."""
