"""Ranks: where they run, how they start, what they exchange."""
