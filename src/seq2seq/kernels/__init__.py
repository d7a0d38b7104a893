"""Loops of the search that torch has no operator for, compiled by numba for one core of the CPU at hand."""
