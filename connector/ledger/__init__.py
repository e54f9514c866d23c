"""Ledgers: durable accounts and transfers, under the rules of TigerBeetle.

`model` has the types, `interface` the contract, `machine` the rules as a pure state machine,
`embedded` the machine with a durable journal, `tigerbeetle` a cluster, `select` what the settings name.
"""
