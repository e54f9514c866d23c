"""One node: its parts built and joined once, started in order, stopped in reverse; run-time changes."""
