"""The switch for conditional payments.

`rules` admits packets, `terms` computes what is offered to the next hop, `receiver` answers packets
for this node, `switch` has the packet flow (the steps of one Prepare), `driver` executes flows.
"""
