"""Word alignments from attention, and pictures of them."""
