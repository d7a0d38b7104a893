"""The version, and how to get another one, where every layer may read them."""

__version__ = "0.1.0"
UPDATE = "git pull && pip install . in the clone of seq2seq"
"""The remedy for files of a newer version."""
