"""An Interledger (ILPv4) connector with the accounting built in.

The map, from the wire inwards:

    oer.py          the encoding of everything below (RFC 30)
    btp/            websockets and BTP sessions: octets in, events out (RFC 23)
      packet.py       BTP packets                     session.py  requests, answers, log-in; pure
      frames.py       plain websocket frames, fast    link.py     connections that come and go
    ilp/            ILPv4 (RFC 27)
      packet.py       Prepare, Fulfill, Reject        address.py  addresses (RFC 15)
      ildcp.py        what a child is told (RFC 31)   settle.py   peer.settle (RFC 38)
    switch/         the story of one packet: rules, routing, terms, reserve, send, check, post
      rules.py        may it come in?
      terms.py        what do we offer the next hop?
      receiver.py     what is for this node
      switch.py       the story, one generator, top to bottom
      driver.py       carries stories out; joins packets that are sent again
      observer.py     what is told of packets: whole, or only counted
    ledger/         the books
      model.py        accounts, transfers, statuses: the words
      rows.py         the same as octets
      interface.py    what a ledger promises
      machine.py      the rules of a ledger, pure
      embedded.py     the machine with a durable journal in SQLite
      tigerbeetle.py  the contract on a TigerBeetle cluster; its client: tigerbeetle_client.py
      outbox.py       posts that were promised and not yet acknowledged
      history.py      balances of the past, from a ledger that keeps them
      books.py        the mirror of accounts, what is held, the transfers of each step; pure
      recovery.py     what a ledger's transfers say of packets that are sent again; pure
      account_manager.py  reserve, post, void; the one writer; outages, recovery
    settlement/     paying a balance outside the ledger
      model.py        quantities, phases, what may follow what; pure
      store.py        every settlement, in one file
      engine.py       who pays: an operator, or an RFC 38 engine over HTTP
      manager.py      decides, books, has it paid, confirms; once, whatever dies
    delivery.py     packets for this node, to a URL or a handler
    routing.py      which peer a packet goes to
    peers.py        who we have terms with
    config.py       settings: environment, YAML, defaults
    urls.py         which URLs can be dialled
    overlay.py      what was changed while the node ran, over the settings
    neighbours.py   the settings made true: accounts, links, routes
    control.py      how an operator changes them
    known.py        what is remembered of peers over restarts
    daemon.py       builds and starts everything; `Connector`, the library
    web/            HTTP: health, metrics, API, login, page
      guard.py        what every request passes first      access.py  the key and the cookie
      admin.py        the admin API                   views.py   what is shown of a node
      feed.py         events, history, live feed      network.py what other nodes say
      settlement.py   what settlement engines call, and operators who settle
      app.py          all of it together              server.py  the listener   login.py  the cookie's
      models.py       answers, for the document       openapi.py the document
    telemetry/      what is happening
      events.py       every event, and its JSON
      bus.py          from whoever knows to viewers and the store
      reporter.py     balances that changed, and how the node is
      store.py        the last events on disk
      timeline.py     one packet told from its events
      traces.py       OpenTelemetry traces of sampled packets
      metrics.py      Prometheus
    cli.py          the commands                      terminal.py  how they print
    demo.py         `demo`: a line of connectors      sender.py    `send`: a BTP client
    audit.py        `audit`: do the books add up?     follow.py    the live feed for a command
    compose.py      compose files for any number of nodes
    healthcheck.py  the one that containers run all the time, without loading the rest
    limits.py       every bound      errors.py  whose fault      clock.py  the only clock
    sqlite.py       a file and its thread             files.py   written whole or not at all
    log.py          structured, secrets redacted      version.py

Use as a library:

    async with Connector(Settings(node_id="alice", ...)) as node:
        answer = await node.send("g.bob", 1000)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Loaded when asked for: a health check, run every few seconds, needs none of it.
_HOMES = {
    "ConfigError": "errors",
    "Connector": "daemon",
    "ConnectorError": "errors",
    "Fulfill": "ilp.packet",
    "PeerSettings": "config",
    "Prepare": "ilp.packet",
    "Reject": "ilp.packet",
    "Relation": "peers",
    "Settings": "config",
    "__version__": "version",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'connector' has no attribute {name!r}")
    return getattr(importlib.import_module(f"connector.{_HOMES[name]}"), name)
