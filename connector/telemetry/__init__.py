"""Telemetry: events, metrics, traces and the event store. Never blocks; events may be lost."""
