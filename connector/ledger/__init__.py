"""The books: accounts and transfers, and the one who writes them.

`model` has the words, `interface` the contract, `machine` the rules as a pure state machine,
`embedded` the machine with a durable journal, `account_manager` the product's use of it all.
"""
