"""Search for the settings of a training: successive halving on exact resume."""
