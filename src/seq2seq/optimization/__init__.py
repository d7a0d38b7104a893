"""Loss, optimizers, learning-rate schedules, averaging and mixed precision."""
