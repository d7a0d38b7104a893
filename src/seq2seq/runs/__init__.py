"""Runs: training from a config, evaluation, and loading for use. Parts are put together here and nowhere else."""
