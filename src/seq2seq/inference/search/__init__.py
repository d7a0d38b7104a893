"""Search: token ids in, token ids out; one loop for beam search, greedy and sampling."""
