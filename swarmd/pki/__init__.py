"""Who may speak: the CA, CSRs, join tokens, renewal times. `now` is passed in. Must not know files or sockets."""
