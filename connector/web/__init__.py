"""HTTP: health, metrics for Prometheus, the read and admin APIs, the live feed, and the page."""
