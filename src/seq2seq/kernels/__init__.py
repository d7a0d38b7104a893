"""What a search computes most, in loops that numba compiles for one core of the CPU at hand.

They are what torch has no operator for, and what its operators take longer to begin than to do.
"""
