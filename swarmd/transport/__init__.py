"""How it travels: listener, dialer, streams over WebSocket `swarm.1`. Alone imports trio_websocket and ssl.

Must not know Raft, state, or what a method does. `transport.blocking` and what it imports are free of Trio.
"""
