"""How weights are changed: loss, optimizers, learning-rate schedules and numeric precision."""
