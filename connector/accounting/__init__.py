"""The accounts of a node.

`manager` turns reserve, post and void into ledger requests, also through outages; `outbox` keeps on
disk what the ledger has not acknowledged.
"""
