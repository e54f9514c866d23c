/** A peer as one object, on a page of its own (`#peers/<id>`): account, link, terms, keys, settlements, packets, history. */

import { useEffect, useRef } from "preact/hooks";
import { type Account, levelsOf } from "../model/accounts";
import { balance, exactTitle, owes } from "../model/format";
import { peerName } from "../model/network";
import { peerActions } from "../model/forms";
import type { PeerItem, PeerTerms } from "../model/types";
import { type Zoom, zoomOf, zoomText } from "../model/url";
import { Limits, Sides } from "../parts/accountparts";
import { type Asked, useAsk } from "../parts/ask";
import { Chip, cls, Empty, Panel, Segments, useEvery, useFocusBack } from "../parts/bits";
import { Unzoom } from "../parts/frame";
import { Icon } from "../parts/icons";
import { Act } from "../parts/operate";
import { isAsked, OpenSettlement } from "../parts/settlement";
import { accounts, goTo, loadNetwork, loadPeers, loadRoutes, network, place, setQuery, settingsVersion, settlements, store } from "../state";
import { RANGES } from "./accounts";
import { HistoryChart } from "./history";
import { marksOf, PeerHistory, useHappened } from "./peerhistory";
import { PeerTraffic } from "./peertraffic";
import { PeerKeys, PeerLimits, PeerLink, PeerPackets, PeerRoutes, PeerSettlements } from "./peerpanels";

export function PeerPage(props: { peerId: string }) {
  const { peerId } = props;
  const frame = useRef<HTMLDivElement>(null);
  useFocusBack(frame, () => document.querySelector(`[data-testid="peer-${CSS.escape(peerId)}"] button`));
  useEvery(loadPeers, 2000);
  const version = store.routesVersion.value;
  useEffect(() => {
    void loadRoutes();
    if (network.peek() === null) void loadNetwork();
  }, [version]);
  const peer = store.peers.value.find((one) => one.peerId === peerId);
  const key = accounts.value.find((one) => one.peerId === peerId)?.key;
  // That of this peer is followed at once.
  const account = key === undefined ? undefined : store.account(key)?.value;
  return (
    <div ref={frame} class="peer-page" id="peer-card">
      {peer === undefined && account === undefined ? (
        <>
          <Head peerId={peerId} peer={peer} account={account} terms={null} />
          <Panel title={peerId}>
            <Empty title="There is no peer of that name" />
          </Panel>
        </>
      ) : (
        <Known peerId={peerId} peer={peer} account={account} />
      )}
    </div>
  );
}

function Known(props: { peerId: string; peer: PeerItem | undefined; account: Account | undefined }) {
  const { peerId, peer, account } = props;
  const limits = `${account?.creditLimit ?? ""} ${account?.threshold ?? ""} ${peer?.enabled ?? ""}`;
  const terms = useAsk<PeerTerms>(`api/peers/${encodeURIComponent(peerId)}`, {}, [peer === undefined, limits, settingsVersion.value]);
  return (
    <>
      <Head peerId={peerId} peer={peer} account={account} terms={peer === undefined ? null : terms.value} />
      <Body peerId={peerId} peer={peer} account={account} terms={terms} />
    </>
  );
}

function Head(props: { peerId: string; peer: PeerItem | undefined; account: Account | undefined; terms: PeerTerms | null }) {
  const { peerId, peer, account, terms } = props;
  const url = network.value?.nodes.find((node) => node.nodeId !== null && peerName(node.nodeId) === peerId && node.url !== "")?.url;
  return (
    <header class="peer-head">
      <button
        type="button"
        class="button small"
        aria-label="Close"
        onClick={() => {
          goTo("peers");
        }}
      >
        ← Peers
      </button>
      <h2 class="peer-name">{peerId}</h2>
      <span class="peer-chips" data-testid="peer-state">
        {peer === undefined ? (
          <Chip kind="quiet">no longer configured</Chip>
        ) : (
          <>
            {peer.connected ? <Chip kind="ok">connected</Chip> : peer.offlineExpected === true ? <Chip kind="quiet">away, expected</Chip> : <Chip kind="bad">not connected</Chip>}
            {peer.enabled === false && <Chip kind="warn">disabled</Chip>}
            {peer.draining === true && <Chip kind="busy">being removed</Chip>}
            <span class="muted">
              {peer.relation}, {peer.assetCode} scale {peer.assetScale}
            </span>
          </>
        )}
        {url !== undefined && (
          <a class="link" href={url} target="_blank" rel="noopener">
            Its own page ↗
          </a>
        )}
      </span>
      {peer !== undefined && <PeerActions peer={peer} account={account} terms={terms} />}
    </header>
  );
}

/** Everything that can be done with a peer. */
function PeerActions(props: { peer: PeerItem; account: Account | undefined; terms: PeerTerms | null }) {
  const { peer, account, terms } = props;
  return (
    <div class="peer-acts" data-testid="peer-acts">
      {peerActions(peer, account, terms).map((action) => (
        <Act key={action.key} action={action} small />
      ))}
    </div>
  );
}

/** What its charts show: a range up to now, or a part of time that was zoomed to. */
interface Time {
  readonly range: readonly [string, string, number];
  readonly zoom: Zoom | null;
  readonly onZoom: (zoom: Zoom) => void;
}

function timeOf(query: Readonly<Record<string, string>>): Time {
  return {
    range: RANGES.find(([id]) => id === query["range"]) ?? RANGES[2] ?? ["1h", "", 3_600_000],
    zoom: zoomOf(query["zoom"]),
    onZoom: (next) => {
      setQuery({ zoom: zoomText(next) });
    },
  };
}

function Body(props: { peerId: string; peer: PeerItem | undefined; account: Account | undefined; terms: Asked<PeerTerms> }) {
  const { peerId, peer, account, terms } = props;
  const happened = useHappened(peerId);
  const known = peer === undefined ? null : terms.value;
  const time = timeOf(place.value.query);
  return (
    <div class="peer-columns">
      <div class="peer-main">
        {account !== undefined && <AccountPanel account={account} terms={known} marks={marksOf(happened.items)} time={time} />}
        <PeerTraffic peerId={peerId} asset={store.assetOf(peerId)} rangeMs={time.range[2]} zoom={time.zoom} onZoom={time.onZoom} />
        <PeerSettlements peerId={peerId} />
        <PeerPackets peerId={peerId} />
      </div>
      <div class="peer-side">
        {peer !== undefined && <PeerLink peer={peer} terms={known} />}
        {peer !== undefined && account !== undefined && <PeerLimits peer={peer} account={account} terms={terms} />}
        <PeerRoutes peerId={peerId} terms={known} />
        {peer !== undefined && <PeerKeys peerId={peerId} connected={peer.connected} />}
        <PeerHistory peerId={peerId} happened={happened} />
      </div>
    </div>
  );
}

function AccountPanel(props: { account: Account; terms: PeerTerms | null; marks: ReturnType<typeof marksOf>; time: Time }) {
  const { account, terms } = props;
  const { range, zoom, onZoom } = props.time;
  const asset = { code: account.code, scale: account.scale };
  const side = account.net > 0n ? "owed" : account.net < 0n ? "owing" : "even";
  const asked = settlements.value.filter((one) => one.peerId === account.peerId && isAsked(one));
  const max = terms?.maxPayable ?? null;
  return (
    <Panel
      title="Account"
      aside={
        <>
          <Unzoom
            zoomed={zoom !== null}
            onReset={() => {
              setQuery({ zoom: "" });
            }}
          />
          <Segments
            label="Time range"
            options={RANGES}
            chosen={range[0]}
            onChoose={(id) => {
              setQuery({ range: id, zoom: "" });
            }}
          />
        </>
      }
    >
      <div class="pad peer-books">
        <div class={cls("net", side)} title={exactTitle(account.net, asset)} data-testid="net" data-net={account.net.toString()}>
          <Icon name={side === "owed" ? "down" : side === "owing" ? "up" : "even"} />
          <span class="net-words-in">
            {side === "even" ? "even" : `${owes(account.net)} `}
            {side !== "even" && <span class="net-value num">{balance(account.net < 0n ? -account.net : account.net, account.scale)}</span>}
            {side !== "even" && <span class="net-unit"> {account.code}</span>}
          </span>
        </div>
        <Sides account={account} />
      </div>
      {asked.length > 0 && (
        <div class="pad peer-asked">
          {asked.slice(0, 5).map((one) => (
            <OpenSettlement key={one.settlementId} one={one} asset={asset} />
          ))}
          {asked.length > 5 && <span class="muted">and {asked.length - 5} more below</span>}
        </div>
      )}
      <HistoryChart account={account} rangeMs={range[2]} zoom={zoom} levels={levelsOf(account, max === null ? null : BigInt(max))} marks={props.marks} onZoom={onZoom} />
      <div class="pad peer-account">
        <Limits account={account} />
      </div>
    </Panel>
  );
}
