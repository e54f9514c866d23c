"""The accounts of a node: every packet that moves value is in the ledger, once.

`manager.AccountManager` is the interface to the rest of the node. The switch calls *reserve*, then
*post* or *void*; telemetry and settlement read balances; timers call the maintenance methods.
Behind it:

**One writer.** `writer` queues entries (`entries`: a hold, then a post or a void, perhaps a
correction) and has one request in flight; entries queued meanwhile go into the next request.
`turn` holds the ledger and its lock: the writer, changes of limits and queries use it in turn.

**One mirror.** `mirror` has all balances as they will be when the queue is written. It is the only
writer of balances and always changes both sides by the same amount. With an empty queue it equals
the ledger.

**The availability of the ledger is a table.** `availability.TRANSITIONS` has every legal move
between nine phases, `ROWS` the meaning of each: the state shown, what admits new packets, where
the writer writes to, which task polls the ledger. While the ledger is up, it admits packets and
takes all requests. While it is away, the policy decides. *reject*: no new packet is accepted, and
posts and voids wait. *spool*: the mirror admits packets and requests go to the outbox; `reconnect`
polls the ledger until it answers, replays the outbox (`replay`) and hands the ledger back to the
writer.

**The state of a packet's money is a table.** `promises.TRANSITIONS` takes a reservation from its
hold to its post or void. A Fulfill is money that we owe already, so it must not wait for a slow
ledger: when the post is not acknowledged within its budget, `spool` writes it to the outbox, and
the post is retried under the same id until it is booked. The Fulfill is sent when the post is
durable, in the ledger or in the outbox, or else at the sender's last moment. If the hold has
expired meanwhile, the amount is booked directly, beyond the limit if necessary: a correction.

**A Fulfill that could not be fetched again is durable no later than its post.** Where the next hop
does not support packet ids, or the receiver is this node, `fulfilments` has the Fulfill kept: by
the ledger beside the post, or in the outbox's file before the post is queued. After a crash
`recovery` posts what was fulfilled and answers a resent packet with the kept Fulfill.

**One process of a node is active.** `lease` has the phases and the ledger rows of the lease;
`leaseholder` claims it and checks it while this process is active, `standby` waits for it.

**Responsibilities.** `chart`: the accounts that exist. `credit`: credit granted, also above limits.
`spool`: the outbox. `acknowledged`: the balances that the ledger must have at least. `start`: first
contact with the ledger, and the balances assumed before it. `recovery`: packets that only the
ledger knows, and unclaimed holds. `reconcile`: bookings of other processes. `settlement`: the
settlement accounts. `reports`: outcomes, alerts and counters.

Each imports only from those below it; the contract in `pyproject.toml` gives the order.
"""
