"""Checkpoints: weights and training state on disk, verified before use."""
