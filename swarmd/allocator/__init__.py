"""Which address and port: for now the gate NEW -> PENDING, which every task passes. Pure."""
