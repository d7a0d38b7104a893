"""Parallel text to batches: reading, cleaning, tokenizing, storing, batching.

A pair of texts flows `corpus` -> `cleaning` -> `tokenizers` -> `store` -> `batches`; `prepare` runs the first four
steps and caches the result. Nothing is imported here, so that a command loads only the parts that it uses.
"""
