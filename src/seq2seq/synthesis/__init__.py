"""Synthetic training pairs: back-translation of monolingual text, and sequence-level knowledge distillation."""
