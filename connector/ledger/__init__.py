"""Ledgers: durable accounts and transfers with the semantics of TigerBeetle.

`model` has the types, `interface` the contract, `machine` the rules as a pure state machine,
`embedded` the machine with a durable journal, `tigerbeetle` a TigerBeetle cluster. `select` makes
the ledger that the settings name.
"""
