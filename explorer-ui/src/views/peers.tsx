/** The links and the routing table. */

import { useEffect, useRef } from "preact/hooks";
import { balance, clock, count, duration, owes, span } from "../model/format";
import { inOrder } from "../model/inbox";
import type { PeerItem, RouteItem } from "../model/types";
import { Chip, cls, Dot, Empty, Loaded, Panel, useEvery, useFocusBack } from "../parts/bits";
import { Icon } from "../parts/icons";
import { goTo, loadPeers, loadRoutes, place, routes, routesLoad, routesMore, setQuery, store } from "../state";
import { Explain } from "./explain";
import { name } from "./packets";
import { PeerAccount, PeerActions, PeerRoutes, PeerSettlements } from "./peer";

const ROUTES_DRAWN_MAX = 300;

export function Peers() {
  useEvery(loadPeers, 2000);
  const { query } = place.value;
  const selected = store.peers.value.find((peer) => peer.peerId === query["peer"]);
  return (
    <div class="peers">
      <div class="peers-left">
        <PeerTable selected={query["peer"]} />
        {selected !== undefined && <PeerCard key={selected.peerId} peer={selected} />}
        {query["peer"] !== undefined && selected === undefined && (
          <Panel title={query["peer"]}>
            <p class="muted pad">There is no peer of that name.</p>
          </Panel>
        )}
      </div>
      <Routes />
    </div>
  );
}

function PeerTable(props: { selected: string | undefined }) {
  const peers = [...store.peers.value].sort((a, b) => inOrder(a.peerId, b.peerId));
  const up = peers.filter((peer) => peer.connected).length;
  return (
    <Panel title="Peers" aside={<span class="muted">{up} of {peers.length} connected</span>}>
      {peers.length === 0 ? (
        <Empty title="No peers configured">BTP_PEER_&lt;ID&gt;_SECRET names the first; docs/configuration.md has the rest.</Empty>
      ) : (
        <div class="scroll-x">
          <table class="grid">
            <thead>
              <tr>
                <th scope="col">Peer</th>
                <th scope="col">Link</th>
                <th class="roomy" scope="col">Relation</th>
                <th class="roomy" scope="col">Asset</th>
                <th scope="col" class="right">Latency</th>
                <th scope="col" class="right roomy">Reconnects</th>
                <th scope="col" class="right" title="Prepares taken from it"><span class="roomy">Packets </span>in</th>
                <th scope="col" class="right" title="Prepares sent to it"><span class="roomy">Packets </span>out</th>
              </tr>
            </thead>
            <tbody>
              {peers.map((peer) => (
                <tr
                  key={peer.peerId}
                  class={cls("grid-row", peer.peerId === props.selected && "grid-on")}
                  data-testid={`peer-${peer.peerId}`}
                  onClick={() => {
                    setQuery({ peer: peer.peerId === props.selected ? "" : peer.peerId });
                  }}
                >
                  <th scope="row">
                    <button type="button" class="link strong" title={peer.peerId} aria-expanded={peer.peerId === props.selected}>
                      {peer.peerId}
                    </button>
                  </th>
                  <td>
                    <Dot kind={peer.connected ? "live" : peer.offlineExpected === true ? "wait" : "bad"} />
                    {peer.connected ? (peer.direction ?? "connected") : peer.offlineExpected === true ? "down, expected" : "down"}
                    {peer.enabled === false && " · disabled"}
                    {peer.draining === true && " · being removed"}
                  </td>
                  <td class="roomy">{peer.relation}</td>
                  <td class="roomy">
                    {peer.assetCode} <span class="muted">{peer.assetScale}</span>
                  </td>
                  <td class="right num">{duration(peer.latencyMs)}</td>
                  <td class="right num roomy">{Math.max(0, peer.connects - 1)}</td>
                  <td class="right num">{count(peer.packetsIn)}</td>
                  <td class="right num">{count(peer.packetsOut)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

function PeerCard(props: { peer: PeerItem }) {
  const { peer } = props;
  const frame = useRef<HTMLDivElement>(null);
  useFocusBack(frame, () => document.querySelector(`[data-testid="peer-${CSS.escape(peer.peerId)}"] button`));
  const account = store.allAccounts().find((one) => one.peerId === peer.peerId);
  const events = store.incidents.value.filter(
    ({ event }) => "peerId" in event && event.peerId === peer.peerId && event.type.startsWith("PEER_"),
  );
  const box = (label: string, value: string, title?: string) => (
    <div class="stat" {...(title ? { title } : {})}>
      <span class="stat-label">{label}</span>
      <span class="stat-value num">{value}</span>
    </div>
  );
  return (
    <div ref={frame}>
      <Panel
        title={`Peer ${peer.peerId}`}
        id="peer-card"
        aside={
          <button
            type="button"
            class="tool"
            aria-label="Close"
            onClick={() => {
              setQuery({ peer: "" });
            }}
          >
            <Icon name="close" />
          </button>
        }
      >
        <div class="stats">
          {box("fulfilled in", count(peer.fulfilledIn), "Its packets that we fulfilled to it")}
          {box("rejected in", count(peer.rejectedIn), "Its packets that we rejected to it")}
          {box("fulfilled out", count(peer.fulfilledOut), "Packets that it fulfilled")}
          {box("rejected out", count(peer.rejectedOut), "Packets that it rejected")}
          {box("in flight", `${count(peer.inFlight)} / ${count(peer.inFlightOut ?? 0)}`, "Without an answer yet: from it / to it")}
          {box("reconnects", count(Math.max(0, peer.connects - 1)))}
          {box("relation", peer.relation)}
          {box("asset", `${peer.assetCode} ${peer.assetScale}`, "Code and scale")}
          {box("resent", `${count(peer.resentIn)} / ${count(peer.resentOut)}`, "After a broken connection: by it / by us")}
        </div>
        {!peer.connected && (
          <p class="notice notice-bad">
            <Icon name="stop" />
            Not connected{peer.lastError === "" ? "." : `: ${peer.lastError}`}
          </p>
        )}
        {account !== undefined && (
          <p class="pad peer-links">
            <span class={account.net > 0n ? "owed" : account.net < 0n ? "owing" : "even"}>
              {account.net === 0n
              ? "Even"
              : `${owes(account.net)} ${balance(account.net < 0n ? -account.net : account.net, account.scale)} ${account.code}`}
          </span>{" "}
            <button type="button" class="link" onClick={() => { goTo("accounts", { q: peer.peerId }); }}>
              Account
            </button>{" "}
            <button type="button" class="link" onClick={() => { goTo("packets", { peer: peer.peerId }); }}>
              Packets
            </button>
          </p>
        )}
        {account !== undefined && <PeerAccount account={account} />}
        <PeerRoutes peerId={peer.peerId} />
        <PeerSettlements peerId={peer.peerId} />
        <PeerActions peer={peer} account={account} />
        {events.length > 0 && (
          <ul class="log">
            {events.slice(0, 8).map(({ seq, at, event }) => (
              <li key={seq}>
                <span class="num muted">{clock(at)}</span> {event.type === "PEER_CONNECTED" ? "connected" : "disconnected"}
                {"reason" in event && event.reason !== "" && <span class="muted">: {event.reason}</span>}
              </li>
            ))}
          </ul>
        )}
      </Panel>
    </div>
  );
}

function Routes() {
  const version = store.routesVersion.value;
  useEffect(() => {
    void loadRoutes();
  }, [version]);
  const { query } = place.value;
  const text = (query["route"] ?? "").toLowerCase();
  const shown = routes.value.filter(
    (route) => (query["peer"] === undefined || route.nextHop === query["peer"]) && (route.prefix.toLowerCase().includes(text) || route.nextHop.includes(text)),
  );
  return (
    <Panel
      title="Routing table"
      aside={
        <span class="muted">
          {count(shown.length)} of {count(store.status.value?.routes ?? routes.value.length)}
          {query["peer"] !== undefined && ` through ${query["peer"]}`}
        </span>
      }
    >
      <Explain />
      <input
        class="input wide"
        type="search"
        placeholder="Prefix or next hop …"
        aria-label="Filter routes"
        value={query["route"] ?? ""}
        onInput={(event) => {
          setQuery({ route: event.currentTarget.value });
        }}
      />
      <Loaded load={routesLoad.value} what="routes" retry={() => void loadRoutes()}>
        {shown.length === 0 ? (
          <Empty title={routes.value.length === 0 ? "No routes" : "No route fits"}>
            {routes.value.length === 0 ? "ROUTES, or the routes of a peer, say where packets go." : "Take the filter away to see all of them."}
          </Empty>
        ) : (
          <div class="scroll-x">
            <table class="grid" data-testid="routes">
              <thead>
                <tr>
                  <th scope="col">Prefix</th>
                  <th scope="col">Next hop</th>
                  <th scope="col">Source</th>
                  <th scope="col" title="Neighbours that have taken our announcement of it">Announced to</th>
                </tr>
              </thead>
              <tbody>
                {shown.slice(0, ROUTES_DRAWN_MAX).map((route) => (
                  <RouteRow key={`${route.prefix} ${route.nextHop} ${route.source}`} route={route} />
                ))}
              </tbody>
            </table>
            {(shown.length > ROUTES_DRAWN_MAX || routesMore.value) && (
              <p class="muted pad">
                The first {Math.min(shown.length, ROUTES_DRAWN_MAX)} are shown: filter to find others, or ask above where an address goes.
              </p>
            )}
          </div>
        )}
      </Loaded>
    </Panel>
  );
}

function RouteRow(props: { route: RouteItem }) {
  const { route } = props;
  return (
    <tr>
      <td class="mono break">{route.prefix === "" ? <i>everything else</i> : route.prefix}</td>
      <td>
        {store.peers.value.some((peer) => peer.peerId === route.nextHop) ? (
          <button
            type="button"
            class="link"
            onClick={() => {
              setQuery({ peer: route.nextHop });
              requestAnimationFrame(() => document.getElementById("peer-card")?.scrollIntoView({ block: "nearest" }));
            }}
          >
            {route.nextHop}
          </button>
        ) : (
          name(route.nextHop === "local" ? "" : route.nextHop)
        )}
      </td>
      <td>
        <Chip kind="quiet">{route.source}</Chip>
        {route.ageSeconds !== null && route.ageSeconds !== undefined && (
          <span class="muted" title={`By way of ${(route.path ?? []).join(", ")}`}> {span(route.ageSeconds)}</span>
        )}
      </td>
      <td class="break">{(route.announcedTo ?? []).join(", ") || <span class="muted">nobody</span>}</td>
    </tr>
  );
}
