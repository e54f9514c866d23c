"""A network of complete nodes in virtual time, with seeded faults and independent checks.

The nodes are the daemon's `Core` on a simulated network, simulated disks and simulated ledgers; see
docs/simulation.md. One seed determines everything. Terms used here:

- *end*: a sender or receiver at the edge of the network, with its own codec (`ends`);
- *facts*: what the ends sent, received and answered (`facts`); the *diary* is their event log;
- *judge*: compares the facts with the raw rows of every ledger (`judge`); each violation of one of
  its rules is a *finding*, and all findings of a run are its *verdict*;
- *story*: the event log of a failure, reduced to the payments and faults needed for it (`story`).
"""
