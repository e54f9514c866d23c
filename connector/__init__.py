"""An Interledger (ILPv4) connector with the accounting built in.

The map, each package above those that it uses:

    cli/            the commands
      main.py         the app: every command, in the order of --help
      peers.py        peers, limits, routes: shown and changed
      ask.py          what would happen, shown and confirmed
      run.py          run, check-config, healthcheck  show.py     status, peers, routes, ...
      probe.py        ping, trace, explain
      conformance.py  conformance
      send.py         send                            settle.py   settle
      received.py     received, payments
      pay.py          pay
      offline.py      demo, audit, compose            common.py   options, exit codes
      init.py         init                            wizard.py   what it asks
      log.py          log                             nodes.py    nodes
      sinks.py        sinks
      usage.py        the list of commands, and what is wrong with a command line
      completion.py   completion                      tree.py     every command and option, as data
      progress.py     what a command says while it takes long
      simulate.py     simulate                        process.py  Ctrl-C; output that is full or unread
    simulation/     networks of whole nodes in virtual time, with faults (docs/simulation.md)
      kinds.py        names of faults and traits      rules.py    what must hold
      plan.py         what a seed means               draw.py     makes a plan of a seed
      draw_apart.py   parts with random sources of their own: replacements, bounds ...
      draw_routes.py  nodes that learn routes         draw_streams.py  payments of many packets
      draw_http.py    links by HTTP                   http_ends.py  ends that speak it
      proxy.py        proxies that lose answers, or ask twice
      world.py        time, processes                 network.py  connections that break
      transport.py    one connection                  disk.py     SQLite without a disk
      cluster.py      TigerBeetle without a server    parts.py    what a node is put together with
      node.py         the core of a node, in a process that can be killed
      operators.py    what is changed while it runs   ends.py     senders and receivers
      hostile.py      peers that break the rules      plugin.py   a peer like ilp-plugin-btp
      octets.py       the codec of all these          liar.py     ends that announce what is not theirs
      faults.py       what breaks, and how            facts.py    what the ends know
      raw.py          what the ledgers hold           evidence.py what the judge is given
      judge.py        whether a unit is missing or paid twice: facts against ledgers
      judge_streams.py the same of payments of many packets
      wrong_clocks.py what a wrong clock may cost     bounded.py  whether an operator's bounds hold
      replaced.py     whether a replacement loses packets
      loops.py        whether a ring of routes ends   watch.py    clocks and journals meanwhile
      ways.py         several ways, learned routes    streams.py  payments of many packets
      run.py          one seed, to the verdict        story.py    reduces a failure
    client.py       a typed client of a node's HTTP API, for programs that operate nodes
    tools/          tools behind the commands
      audit.py        checks of the books             demo.py     `demo`: a line of connectors
      sender.py       `send`: a BTP client            compose.py  compose files for any number of nodes
      client.py       a node's own HTTP API           follow.py   its live feed
      terminal.py     output of commands              amounts.py  `1.25USD`, as operators type it
      nodes.py        named nodes: URL and key file   setup.py    what `init` writes: configuration, secrets, unit of systemd
      probe.py        pings and traces                plain_btp.py  one BTP connection, by hand
      knock.py        what listens where a BTP listener was expected
      conformance.py  checks of a peer from outside, and their verdicts
      conformance_btp.py  those of BTP                conformance_ilp.py  those of ILP
      healthcheck.py  the check that containers run often; loads little
      audit_process.py  the process of an audit that a node was asked for
    node/           one node, all parts joined
      core.py         every part that handles packets and money, joined once; what it runs on
      lifecycle.py    a core opened, started, stopped, closed; its ticks
      connector.py    the core with web surface and telemetry on top; `Connector`, the library
      daemon.py       a node until it is stopped; standing by to become one
      surface.py      the listener for health, metrics, API and page
      paid.py         being paid by name: the node's key, and the public listener
      payments.py     payments of this node           payment_store.py remembers them by key
      received.py     what wallets were paid, and the webhook  received_store.py remembers it
      payment_run.py  one payment under way           payment_settle.py what a crash has left under way
      preflight.py    checks files and folders of the settings, before anything is opened
      auditor.py      checks of the books, in a process of their own
      memory.py       what is remembered of peers over restarts
      route_memory.py learned routes, for the next process
      payers.py       who pays each peer: an engine, or an operator
      apply.py        applies settings to peers, links, accounts and routes
      control.py      requests about addresses and routes, to and from neighbours
      addressing.py   the address, if the parent assigns it
      changes.py      changes by an operator while the node runs
      steps.py        each change as a step           preview.py  what it would do, in words
      unrecorded.py   a change that a stop has kept from being recorded
    web/            HTTP: health, metrics, API, login, page
      guard.py        checks before routing           access.py   keys, roles, the cookie
      engine_access.py  tokens of settlement engines
      sessions.py     logins of browsers              roles.py    what each key may do
      operating.py    logins that may change something; who asks
      places.py       bounded places, shared fairly
      admin.py        the admin API                   bodies.py   of its requests
      views.py        the read API
      feed.py         events, history, live feed      network.py what other nodes say
      hops.py         one packet over all nodes, by its condition
      settlement.py   what settlement engines call, and operators who settle
      explain.py      what would happen to a packet now
      rates.py        exchange rates, as the API and metrics show them
      aggregates.py   rates over time, for charts     peer.py     the terms of one peer
      app.py          all of it together              login.py   key for cookie
      server.py       the listener                    standby.py what a standby answers
      turns.py        requests read in small parts, by turns
      pay.py          what payers are told (SPSP)     payments.py payments, in the admin API
      wallets.py      what wallets were paid          log.py      what is kept for long
      sinks.py        where events are delivered
      audit.py        checks of the books             keys.py     keys and secrets, never shown themselves
      proxies.py      what trusted proxies say of a request
      models.py       answers, for OpenAPI            openapi.py its document
      faults.py       what is wrong with a request, in its answer
    sinks/          events delivered to where people keep them
      port.py         what a sink has to do           runner.py   one sink, from its cursor
      webhook.py      POSTs, signed                   jetstream.py  a stream of NATS
      postgres.py     a table                         dead.py     what was refused for good
      selection.py    which events a sink gets        sinks.py    all sinks of a node
    ilp_http/       ILP over HTTP (RFC 35), beside the BTP links
      carrier.py      the listener and the peers, joined; when BTP or HTTP carries a packet
      peer.py         one peer that packets are posted to: probes, requests, sent again
      client.py       HTTP client: what was certainly not sent, and what may have been
      listener.py     what peers post: tokens, packets, answers
      connection.py   one connection of the listener  message.py  headers of a request; pure
      request_ids.py  the same Request-Id is the same packet; pure
      reach.py        terms, and what is known of a peer: a table; pure
      replies.py      answers that are posted to callbacks
    settlement/     paying a balance outside the ledger
      model.py        quantities, the amount due, phases, what may follow what; pure
      store.py        every settlement, in one file
      engine.py       the payer: an operator, or an RFC 38 engine over HTTP
      manager.py      when to settle; requests        engines.py  the payer of each peer
      carrier.py      the steps of one settlement: book, have it paid, confirm; repeatable
    switch/         the packet flow: rules, routing, terms, reserve, send, check, post
      rules.py        admission                       loops.py     packets that come back
      terms.py        amount and expiry for the next hop
      rates.py        live exchange rates, from a URL
      receiver.py     answers of this node itself     delivery.py  to a URL or a handler
      asking.py       whether data of payments to wallets is accepted
      switch.py       the packet flow, one generator, top to bottom
      dry_run.py      what would happen to a packet now
      driver.py       runs packet flows; looks resent packets up
      flight.py       a Prepare in flight; what a resent one must equal
      ways.py         another way for a packet that its next hop has refused: a table; pure
      shortages.py    next hops that answer T04
      inbox.py        the answers kept for a peer that resends, and for how long
      observer.py     events and counts of packets
    btp/            WebSockets and BTP sessions: octets in, events out (RFC 23)
      packet.py       BTP packets                     session.py  requests, answers, log-in; pure
      frames.py       plain WebSocket frames, fast    link.py     one WebSocket and its session
      links.py        all links: admission, log-in, sending
      standstill.py   notices that the process stood still, so that its links are held
      peer_links.py   which of a peer's links serve, and which are drained
      returning.py    packets that wait for a peer that is being replaced
      dial.py         keeps a peer connected          credentials.py verifies log-ins
      network.py      sockets, as links use them; a simulation has its own
    telemetry/      events, metrics, traces
      events.py       every event, and its JSON       timeline.py one packet, from its events
      bus.py          from the sources to viewers and the store
      reporter.py     changed balances, and the node's status
      aggregates.py   rates by the second and the minute
      peer_minutes.py what each peer had, by the minute
      store.py        the last events on disk         metrics.py  Prometheus
      histogram.py    how many took how long
      store_file.py   its tables and their limits     store_query.py  its queries
      store_search.py  text in stored packets
      store_readers.py readers that may miss nothing uncounted: cursors of sinks
      store_search.py  text in stored packets     store_ids.py packets by condition or id
      event_log.py    what operators, links, settlements and the books did: kept for long, in words
      store_minutes.py minutes of traffic
      alerts.py       warnings as events              traces.py   OpenTelemetry traces of sampled packets
    accounting/     the accounts of a node
      manager.py      AccountManager: the façade; delegates nearly every call
      availability.py the relation to the ledger: a table of phases; pure
      promises.py     the state of a packet's money, and when its Fulfill may leave: a table; pure
      mirror.py       balances as shown: the ledger's plus what is queued; their only writer; pure
      entries.py      hold, post, void, correction, and their transfers; pure
      turn.py         the ledger, one request at a time; has it compared after a failed one
      chart.py        which accounts there are, and their flags
      writer.py       admits holds (MAX_PAYABLE; credit while the ledger is away); batches whole packets
      lease.py        which process of a node is active: phases and rows; pure
      leaseholder.py  claims; looks for a later claim standby.py waits until it may be
      acknowledged.py the least that the ledger must have; a ledger that has less is refused
      spool.py        the outbox in use                   outbox.py the outbox itself, in SQLite
      replay.py       books what the outbox holds         reconnect.py asks for a ledger that is away
      start.py        first contact with the ledger
      credit.py       grants credit limits in the ledger; takes back what is above
      fulfilments.py  Fulfills that could not be fetched again: durable no later than their posts
      resent.py       packets, rebuilt from the ledger; pure
      recovery.py     resent packets, unclaimed holds
      own.py          payments of this node: which were begun, what became of their packets
      reconcile.py    follows other processes             settlement.py books settlements
      reports.py      outcomes, alerts, counters          history.py past balances
    ledger/         accounts and transfers, with the rules of TigerBeetle
      model.py        accounts, transfers, statuses; how every id is derived
      interface.py    the contract of a ledger        rows.py     transfers as octets
      machine.py      the rules of a ledger; pure
      embedded.py     the machine with a durable journal in SQLite
      journal.py      its tables and rows             retention.py  pruning
      kept.py         fulfilments in a database, many in a row
      tigerbeetle.py  the contract on a TigerBeetle cluster; its client: tigerbeetle_client.py
      select.py       makes the ledger of the settings
    settings/       environment, YAML, defaults; frozen, checked as a whole
      model.py        every setting, with its reference
      types.py        what a value may be, and the message when it is not
      load.py         reads them, reports all faults  strict_yaml.py strict YAML
      names.py        their names, and which one was meant
      faults.py       what is wrong with a value, in plain words, and where it was written
      describe.py     the settings in effect, and their sources  overlay.py  run-time changes
      terms.py        the terms of peers              contradictions.py between settings
    stream/         payments of many packets (STREAM, RFC 29); pure
      crypto.py       keys, encryption, fulfillments  packet.py   packets and frames
      tokens.py       addresses that carry a secret   receiver.py answers packets for wallets
      target.py       payment pointers (RFC 26), SPSP sender.py   a payment, as a state machine
      incoming.py     which packets make a payment, and when it has come in
      questions.py    what payers say in data frames, and the decision about it
      rate.py         how large packets are, and how many are in flight
      connection.py   what is known of a payer's connection
      proof.py        what a payer has in hand about delivery
      money.py        a packet with money, made again the same
    routing/        routes that neighbours tell each other (CCP); pure
      router.py       takes and makes the requests, for all neighbours
      receiver.py     what one neighbour has announced, and for how long it is kept
      sender.py       what one neighbour has been told, and when it is told more
      journal.py      what has changed, by epoch      model.py    what is taken, and what is told to whom
      link_state.py   whether the routes over a neighbour rank last
      codec.py        the octets
    peering/        peers and routes
      model.py        peers, their terms, assets      routing.py  the routing table
      remembered.py   known peers, kept over restarts
      missed.py       prefixes whose routes have just gone
      throughput.py   how much value may pass in a time
    ilp/            ILPv4 (RFC 27)
      packet.py       Prepare, Fulfill, Reject        address.py  addresses (RFC 15)
      ildcp.py        configuration of a child (RFC 31)  settle.py  peer.settle (RFC 38)
    oer.py          the encoding of ILP and BTP (RFC 30)
    base/           foundations
      errors.py       the exceptions, by cause        limits.py   shared bounds
      words.py        errors of the system, in words
      clock.py        the only clock                  randomness.py  the only randomness
      disk.py         files, as stores use them       files.py    replaced atomically
      sqlite.py       one file behind one thread      http.py     the HTTP client
      log.py          structlog, secrets redacted     log_sink.py  lines written without waiting
      backoff.py      waits that grow                 stop.py     how a node is asked to stop
      connections.py  how many connections without a log-in are kept, per address and in all
      urls.py         URLs that can be dialled        marker.py   detects a truncated journal
      room.py         room on the disk; what stops when there is little
      pace.py         whether the event loop waits for short transactions
      http_turns.py   answers read in small parts    http_heads.py  heads of a bounded number of lines
      wrong_keys.py   throttles wrong keys and tokens, per address

A package keeps its bounds in its `bounds.py`; those that several share, such as packets in flight
per peer, are in `base/limits.py`.

Use as a library:

    async with Connector(Settings(node_id="alice", ...)) as node:
        answer = await node.send("g.bob", 1000)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connector.base.errors import ConfigError, ConnectorError
    from connector.ilp.packet import Fulfill, Prepare, Reject
    from connector.node.connector import Connector
    from connector.peering.model import Relation
    from connector.settings.model import PeerSettings, Settings
    from connector.stream.questions import Decision, PaymentData
    from connector.version import __version__

__all__ = [
    "ConfigError",
    "Connector",
    "ConnectorError",
    "Decision",
    "Fulfill",
    "PaymentData",
    "PeerSettings",
    "Prepare",
    "Reject",
    "Relation",
    "Settings",
    "__version__",
]

# Loaded when asked for: a health check, run every few seconds, needs none of it.
_HOMES = {
    "ConfigError": "base.errors",
    "Connector": "node.connector",
    "ConnectorError": "base.errors",
    "Decision": "stream.questions",
    "Fulfill": "ilp.packet",
    "PaymentData": "stream.questions",
    "PeerSettings": "settings.model",
    "Prepare": "ilp.packet",
    "Reject": "ilp.packet",
    "Relation": "peering.model",
    "Settings": "settings.model",
    "__version__": "version",
}


if not TYPE_CHECKING:  # type checkers would take every name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'connector' has no attribute {name!r}")
        return getattr(importlib.import_module(f"connector.{_HOMES[name]}"), name)
