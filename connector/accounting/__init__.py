"""The accounts of a node: every packet that moves value is in the ledger, once.

`manager.AccountManager` is what the rest of the node talks to. The switch says *reserve*, then
*post* or *void*; telemetry and settlement read balances; a few timers call in. Behind it:

**One writer.** `writer` queues entries (`entries`: a hold, then a post or a void, perhaps a
correction) and has one request under way; what gathers meanwhile goes into the next one. `turn`
holds the ledger and gives it to one at a time: the writer, a changed limit, a look.

**One mirror.** `mirror` has all balances as they will be when the queue is written, and is the only
one who changes them, always both sides by one amount. At rest it equals the ledger.

**How we stand with the ledger is a table.** `availability.TRANSITIONS` has every legal move between
nine phases, `ROWS` what each means: what is shown, who decides on new packets, where the writer
writes to, who asks for the ledger. While it is up, the ledger decides and is written to. While it
is away, the policy decides: *reject* takes no new packet, and what is to be resolved waits; *spool*
lets the mirror decide and writes to the outbox, and `reconnect` asks for the ledger until it is
there, replays the outbox (`replay`) and hands the ledger back to the writer.

**What is promised of a packet's money is a table.** `promises.TRANSITIONS` takes a reservation from
its hold to its post or void. A Fulfill is money that we owe already, so it must not wait for a slow
ledger: when the post is not acknowledged within its budget, `spool` puts it into the durable outbox
and lets the Fulfill go, and the post is retried under the same id until it is booked. A hold that
has expired meanwhile is booked outright, beyond the limit if need be: a correction.

**A Fulfill that could not be fetched again is durable first.** `fulfilments` puts it into the
outbox's file before its post is queued, where the next hop does not know packet ids or the receiver
is this node's. After a crash `recovery` posts what was fulfilled, and finds the answer of a resent
packet there.

**Who owns what.** `chart`: which accounts there are. `credit`: what is granted, also above limits.
`spool`: the outbox. `acknowledged`: what the ledger must have. `start`: first contact with the ledger, and what was assumed before it.
`recovery`: packets that only the ledger knows, and holds that nobody has claimed. `reconcile`: what
other processes did. `settlement`: the settlement accounts. `reports`: who is told what.

Each imports only from those below it; the contract in `pyproject.toml` says which those are.
"""
