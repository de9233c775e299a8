"""A procedural satellite archive with a known long tail, for trying balancer without any data."""
