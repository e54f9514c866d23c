"""What the commands do beside running a node: audit, demo, compose files, a BTP client, health check."""
