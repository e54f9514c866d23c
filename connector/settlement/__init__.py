"""Settlement: paying a balance outside the ledger.

`model.py` is pure: quantities, phases, what may follow what. `store.py` keeps every settlement in
one SQLite file. `engine.py` is the port to whoever pays: an operator, or an RFC 38 engine over
HTTP. `manager.py` watches what we owe and carries settlements through. docs/settlement.md tells
what happens at every point where a process can die.
"""
