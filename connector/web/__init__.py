"""HTTP: health for machines, metrics for Prometheus, the read API for people and the page."""
