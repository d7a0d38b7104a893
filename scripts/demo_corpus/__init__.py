"""Generator of the pairs that seq2seq carries: an English-German grammar and a list of names."""
