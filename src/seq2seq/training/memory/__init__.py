"""How much memory there is, what a training step takes of it, and the largest batch that fits."""
