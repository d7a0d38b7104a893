"""Ranks: placement on devices, launch, and communication."""
