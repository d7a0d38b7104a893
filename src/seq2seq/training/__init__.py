"""The training loop, and what it needs: a step, checkpoints, ranks, memory that suffices, and reports."""
