"""Speed and memory, as ratios measured in one run; JSON first, never part of the tests."""
