"""Which words belong to which, read off the attention, and pictures of it."""
