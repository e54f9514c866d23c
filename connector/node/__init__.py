"""One node: every part built once, started in order, stopped in reverse; changes while it runs."""
