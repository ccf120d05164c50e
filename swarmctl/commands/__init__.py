"""One module per noun, imported when its noun is called. Each has an `app` for `swarmctl.app` to find."""
