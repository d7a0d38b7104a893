"""Exports of trained models to the formats of other libraries, each checked against the model itself.

`ctranslate2` and `transformers` are extras of the package; they are imported only inside the functions that need them.
"""
