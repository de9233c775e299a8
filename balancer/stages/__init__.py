"""The stages of a round on Ray: they move the pure core's results and keep records of them."""
