"""An Interledger (ILPv4) connector with the accounting built in.

The map, from the wire inwards:

    btp/            websockets and BTP sessions: octets in, events out (RFC 23)
    ilp/            ILPv4 packets, addresses, ILDCP (RFC 27, 15, 31)
    switch/         the story of one packet: rules, routing, terms, reserve, send, check, post
      rules.py        may it come in?
      terms.py        what do we offer the next hop?
      receiver.py     what is for this node
      switch.py       the story, one generator, top to bottom
      driver.py       carries stories out; joins packets that are sent again
    ledger/         the books
      model.py        accounts, transfers, statuses: the words
      interface.py    what a ledger promises
      machine.py      the rules of a ledger, pure
      embedded.py     the machine with a durable journal in SQLite
      tigerbeetle.py  the contract on a TigerBeetle cluster
      outbox.py       posts that were promised and not yet acknowledged
      account_manager.py  reserve, post, void; the one writer; mirror, outbox, recovery
    routing.py      which peer a packet goes to
    peers.py        who we have terms with
    config.py       settings: environment, YAML, defaults
    daemon.py       builds and starts everything; `Connector`, the library
    web/            health, metrics, read API
    telemetry/      metrics
    cli.py          the commands
    limits.py       every bound      errors.py  whose fault      clock.py  the only clock

Use as a library:

    async with Connector(Settings(node_id="alice", ...)) as node:
        answer = await node.send("g.bob", 1000)
"""

from connector.config import PeerSettings, Settings
from connector.daemon import Connector
from connector.errors import ConfigError, ConnectorError
from connector.ilp.packet import Fulfill, Prepare, Reject
from connector.peers import Relation
from connector.version import __version__

__all__ = [
    "ConfigError",
    "Connector",
    "ConnectorError",
    "Fulfill",
    "PeerSettings",
    "Prepare",
    "Reject",
    "Relation",
    "Settings",
    "__version__",
]
