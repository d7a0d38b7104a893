"""Reports on finished and running trainings."""
