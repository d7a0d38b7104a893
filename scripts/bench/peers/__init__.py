"""The systems that `train.py` compares: one adapter and one list of pinned versions each."""
