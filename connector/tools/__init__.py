"""Tools behind the commands: audit, demo, compose files, a BTP client, an API client, health check."""
