"""The whole control plane on virtual time: the product's state and leader loops, with fake nodes, users and faults."""
