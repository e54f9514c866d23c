"""Ledgers: where transfers between accounts are kept, under the rules of TigerBeetle.

`model` has the words, `interface` the contract, `machine` the rules as a pure state machine,
`embedded` the machine with a durable journal, `tigerbeetle` a cluster, `select` what the settings name.
"""
