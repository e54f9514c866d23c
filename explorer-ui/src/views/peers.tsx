/** The links and the routing table. */

import { useEffect } from "preact/hooks";
import { count, duration, span } from "../model/format";
import { inOrder } from "../model/inbox";
import type { RouteItem } from "../model/types";
import { addPeer, addRoute, removeRoute } from "../model/forms";
import { Chip, Dot, Empty, Loaded, Panel, useEvery } from "../parts/bits";
import { Act } from "../parts/operate";
import { goTo, loadPeers, loadRoutes, ownAsset, place, routes, routesLoad, routesMore, setQuery, store } from "../state";
import { Explain } from "./explain";
import { name } from "./packets";
import { PeerPage } from "./peer";
import { HourSpark, useActivity } from "./peertraffic";

const ROUTES_DRAWN_MAX = 300;

export function Peers() {
  const peerId = place.value.query["peer"];
  return peerId === undefined ? <Overview /> : <PeerPage key={peerId} peerId={peerId} />;
}

function Overview() {
  useEvery(loadPeers, 2000);
  return (
    <div class="peers">
      <div class="peers-left">
        <PeerTable />
      </div>
      <Routes />
    </div>
  );
}

function PeerTable() {
  const peers = [...store.peers.value].sort((a, b) => inOrder(a.peerId, b.peerId));
  const up = peers.filter((peer) => peer.connected).length;
  const activity = useActivity();
  return (
    <Panel title="Peers" aside={
        <>
          <span class="muted">
            {up} of {peers.length} connected
          </span>
          <Act action={addPeer(ownAsset())} small />
        </>
      }
    >
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
                <th class="roomy" scope="col" title="Packets, both ways, by the minute">Last hour</th>
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
                  class="grid-row"
                  data-testid={`peer-${peer.peerId}`}
                  onClick={() => {
                    goTo("peers", { peer: peer.peerId });
                  }}
                >
                  <th scope="row">
                    <button type="button" class="link strong" title={peer.peerId}>
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
                  <td class="roomy">
                    <HourSpark values={activity.get(peer.peerId)} />
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

function Routes() {
  const version = store.routesVersion.value;
  useEffect(() => {
    void loadRoutes();
  }, [version]);
  const { query } = place.value;
  const text = (query["route"] ?? "").toLowerCase();
  const shown = routes.value.filter(
    (route) => route.prefix.toLowerCase().includes(text) || route.nextHop.includes(text),
  );
  return (
    <Panel
      title="Routing table"
      aside={
        <>
          <span class="muted">
            {count(shown.length)} of {count(store.status.value?.routes ?? routes.value.length)}
          </span>
          {store.peers.value.length > 0 && <Act action={addRoute(store.peers.value.map((peer) => peer.peerId).sort(inOrder))} small />}
        </>
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
              goTo("peers", { peer: route.nextHop });
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
        {route.source === "admin" && (
          <>
            {" "}
            <Act action={removeRoute(route.prefix, route.nextHop)} small />
          </>
        )}
        {route.goesBefore && <span class="muted"> before {route.goesBefore}</span>}
        {route.ageSeconds !== null && route.ageSeconds !== undefined && (
          <span class="muted" title={`By way of ${(route.path ?? []).join(", ")}`}> {span(route.ageSeconds)}</span>
        )}
      </td>
      <td class="break">{(route.announcedTo ?? []).join(", ") || <span class="muted">nobody</span>}</td>
    </tr>
  );
}
