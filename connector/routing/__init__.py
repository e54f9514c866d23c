"""Routes that nodes announce to each other (CCP): what is learned, chosen and told. Pure.

CCP (Connector-to-Connector Protocol) has no RFC. It is what `ilp-protocol-ccp` encodes and JS, Java and Rust
connectors speak (docs/routing.md). `codec` has the octets, `model` the terms with a neighbour, `receiver` what one
neighbour has announced, `journal` what has changed here, `sender` what one neighbour has been told of it,
and `router` joins them. Time and randomness are handed in; the routes in use are in `peering.routing`.
"""
