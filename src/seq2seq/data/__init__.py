"""From raw parallel text to batches: reading, cleaning, tokenizing, storing, batching.

A pair of texts flows `corpus` -> `cleaning` -> `tokenizer` -> `store` -> `batching`; `prepare` runs the first
four and keeps the result in a cache. Nothing is imported here, so that a command pays only for the parts that
it uses.
"""
