"""Checks of data and of the behaviour of runs."""
