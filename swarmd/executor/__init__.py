"""How tasks run: the contract and its implementations (process, fake; docker has its own issue). Alone imports docker."""
