"""Checks of data and of runs."""
