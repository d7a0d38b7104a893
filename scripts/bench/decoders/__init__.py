"""What `decode.py` measures: our run's weights in neutral form, and one loop for each decoder."""
