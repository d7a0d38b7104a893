"""Several processes (ranks) that train one model together: how they meet, exchange, add up gradients, and fail."""
