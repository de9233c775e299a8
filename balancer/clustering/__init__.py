"""K-means on shards: pure local / merge / finalize steps, exact sums."""
