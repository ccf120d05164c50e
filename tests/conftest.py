"""Shared fixtures. Tests are deterministic and never really sleep."""
