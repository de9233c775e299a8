"""The loop: rounds of train, embed, cluster, select, publish, measure."""
