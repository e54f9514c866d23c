"""Settlement: paying a balance outside the ledger.

`model.py` is pure: quantities, phases and their transitions. `store.py` keeps every settlement in
one SQLite file. `engine.py` has the payers: an operator, or an RFC 38 engine over HTTP; `engines.py`
assigns a payer to each peer. `carrier.py` executes the steps of a settlement. `manager.py` checks
what we owe, decides, and handles requests. docs/settlement.md describes each point at which a
process can crash.
"""
