"""One node's life: identity, promotion, demotion; nests manager and agent. Alone names every class."""
