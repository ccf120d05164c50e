"""What nodes say: messages, the method table, the codec, frames. Must not know sockets, or who leads."""
