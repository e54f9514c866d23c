"""Settlement: paying a balance outside the ledger.

`model.py` is pure: quantities, phases and their transitions. `store.py` keeps every settlement in
one SQLite file. `engine.py` is the port to the payer: an operator, or an RFC 38 engine over HTTP;
`engines.py` knows who pays which peer. `carrier.py` takes a settlement through its steps.
`manager.py` checks what we owe, decides, and takes requests. docs/settlement.md describes each
point at which a process can die.
"""
