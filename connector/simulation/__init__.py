"""A network of whole nodes in virtual time, with seeded faults and a judge of its own.

The nodes are the daemon's `Core` on a simulated network, simulated disks and simulated ledgers; see
docs/simulation.md. One seed decides everything.
"""
