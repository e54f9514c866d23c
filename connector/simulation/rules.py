"""The rules of the judge, and the losses that the documentation allows."""

from __future__ import annotations

from typing import Final

RULES: Final = {
    "booked-twice": "a payment is booked at most once at each hop",
    "given-twice": "a receiver is asked for one payment once, and fulfils it once",
    "unproven": "what a hop has booked, the next one has fulfilled",
    "lost": "what the next hop fulfilled in time, a hop has booked",
    "wrong-amount": "each hop books the amount it was offered, less its fee, at its rate",
    "wrong-account": "a payment moves the accounts of the neighbours on its way and no others",
    "stray": "nothing is booked for a payment that nobody made",
    "rows": "the ledger's rows are whole: ids are unique, resolutions resolve what is held",
    "over-limit": "no peer ever owes more than its limit, whatever it was granted",
    "pending": "nothing is held at rest",
    "shown": "a node shows the balances that its ledger has",
    "mirror": "two neighbours agree on what they owe each other",
    "granted": "credit that is granted is credit that is configured",
    "settled": "every payment outside is booked once, and nothing else is",
    "overpaid": "what is paid outside is owed as it is booked, and not held for the peer's packets",
    "in-flight": "no more is held for packets from a peer, or for those to it, than MAX_IN_FLIGHT_VALUE",
    "too-large": "F08 says of a packet that it is by itself more than may be in flight, and nothing else does",
    "prepaid": "an engine's word is taken for what a peer owes and MAX_PREPAID; what is more waits",
    "reserve": "no new packet is taken while there is less room on the disk than the reserve",
    "pruned": "a journal over its size loses rows that are ten minutes old, and none that are younger",
    "replaced": "a planned replacement, with nothing else broken, loses no packet of peers with packet ids",
    "dropped": "no connection is lost where nothing breaks",
    "silent": "a sender that stays connected, or is connected again long before its packet is over, gets an "
    "answer",
    "loop": "a packet in a loop of routes is rejected and books nothing; no node forwards it more than "
    "twice, but where one has forgotten what it had forwarded: with its process, or with a link without packet ids",
    "routes": "at rest the learned routes of every node lead to every other one, without a loop",
    "detour": "where a link is away and nothing else is broken, packets go another way 4 s later",
    "unreachable": "while a learned route can come back, nobody is told that there is none (F02)",
    "stream-sent": "what a payer says that it has sent is what its ledger says, never more than was asked for, and to the unit but for what "
    "it says is uncertain",
    "stream-delivered": "what a payer says was delivered has come in at the wallet",
    "stream-ends": "a payment of many packets ends, and where nothing breaks all of it is paid",
    "answers": "answers are readable and fit what was asked",
    "misplaced": "nothing is booked into a ledger that does not have what it acknowledged",
    "kept": "a packet whose Fulfill is kept is booked",
    "not-durable": "a Fulfill is not let go before it or its post is durable, where the disk is well",
    "failed": "no part of a node fails, and every node starts again",
    "not-ready": "at rest every node takes packets, and its outbox is empty",
}

EXCUSES: Final = {
    "plain-link": "a link without packet ids was lost while the packet was under way: its outcome "
    "is unknown (docs/protocol.md)",
    "machine-lost": "a node's machine was lost for good, and with its disk the Fulfill of a next hop "
    "without packet ids that had not reached the peer before: the peer gets a Reject (docs/accounting.md)",
    "too-late": "the packet had too little time left to be asked for again (RFC 22)",
    "late-request": "a hold was made by a request that reached the ledger after its sender had timed out "
    "and refused the packet, or had been killed and followed by another process: it expires by itself",
    "settlements-lost": "a settlement that was booked and not yet paid is forgotten with "
    "settlements.db (docs/settlement.md)",
    "wrong-clock": "a node started while its clock was so wrong that a packet was over by it: what its "
    "ledger holds for it expires by itself, and what is resent is refused (docs/accounting.md)",
    "expiry-clock": "a Fulfill came after its packet had expired, and in time by the clock of the node "
    "that it came to; or that node says too late that a packet has expired",
    "sender-gone": "the sender cannot ask again, and the node was down meanwhile (docs/protocol.md)",
}
