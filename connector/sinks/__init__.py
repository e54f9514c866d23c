"""Sinks: the events of a node, delivered to where people keep them.

A sink is one place: a webhook, a stream of NATS JetStream, a table of PostgreSQL. Each has a task of its
own, which reads batches from the event store (`telemetry.store_readers`), delivers them in order and then moves the
sink's cursor on disk. Nothing is queued in memory beyond one batch, and nothing is on the packet path.

**What is promised.** At least once: every event that the store has is delivered, over crashes of the
node and of the other side. Twice comes only what was under way at a crash or a failure: at most one batch of
each, and a stream or a table drops it by itself. An event that is gone before it was delivered, since the store is bounded,
or that could not be stored, is counted exactly; the sink gets a record of type `SINK_GAP` in its place.

What the other side refuses for good goes to dead letters on disk, bounded in octets (`dead`).
"""
