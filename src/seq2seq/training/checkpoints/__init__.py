"""Checkpoints: safetensors and JSON, complete or absent, verified before use, never pickled.

checkpoints/step-00000500/{model.safetensors, training.safetensors, state.json, manifest.json}   best ->   last ->
"""
