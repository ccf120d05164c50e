"""The leader's loops: Trio shells that feed dirty ids to the pure layers and write what those decide."""
