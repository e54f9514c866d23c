"""STREAM (RFC 29): payments made of many packets, whose ends share a secret. Pure.

    crypto.py     keys, encryption, fulfillments     packet.py    packets and frames
    tokens.py     addresses that carry a secret      receiver.py  answers packets for wallets
    rate.py       how large, how many                sender.py    a payment, as a state machine
    target.py     payment pointers and SPSP answers

Connectors on the way see an ILP packet with opaque data. Only the two ends can read it: every packet
is encrypted with a key of the shared secret, and its fulfillment is a MAC of the encrypted data.
"""
