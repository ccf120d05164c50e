"""The manager: raft driver, leadership, dispatcher, control API, CA server. Its loops live in one nursery a reign."""
