"""How it travels: listener, dialer, streams over WebSocket `swarm.1`. Alone imports trio_websocket and ssl.

Must not know Raft, state, or what a method does. `transport.blocking` and what it imports (`session`, `events`) are
free of Trio, so this file imports nothing: take `dial` from `dialer`, `Listener` and `ControlSocket` from `listener`,
`Connection`, `Router`, `Stream` and `Call` from `connection`, `Credentials` from `credentials`.
"""
