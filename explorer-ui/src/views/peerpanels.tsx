/** The parts of a peer's page. */

import { useMemo } from "preact/hooks";
import type { Account } from "../model/accounts";
import { clock, count, dateClock, duration, shortId, span } from "../model/format";
import { isPacketEvent, PacketLog, type PacketRow } from "../model/packets";
import type { Keys, Page, PeerItem, PeerTerms, RateItem, SettlementItem, WireEvent } from "../model/types";
import { type Asked, useAsk } from "../parts/ask";
import { Balance, Chip, cls, Empty, Money, Panel } from "../parts/bits";
import { Export, packetsOf, settlementsOf } from "../parts/export";
import { goTo, routes, settlements, store } from "../state";
import { Explain } from "./explain";
import { name, StateChip } from "./packets";

function Facts(props: { rows: readonly (readonly [string, preact.ComponentChildren, string?])[] }) {
  return (
    <dl class="facts peer-facts">
      {props.rows.map(([label, value, title]) => (
        <div key={label} {...(title ? { title } : {})}>
          <dt>{label}</dt>
          <dd class="num break">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function PeerLink(props: { peer: PeerItem; terms: PeerTerms | null }) {
  const { peer, terms } = props;
  const host = terms?.url ?? terms?.httpUrl ?? null;
  return (
    <Panel title="Link">
      {!peer.connected && <p class={cls("notice", peer.offlineExpected !== true && "notice-bad")}>Not connected{peer.lastError === "" ? "." : `: ${peer.lastError}`}</p>}
      <Facts
        rows={[
          ["Direction", peer.direction ?? "–"],
          ["Dialled at", host ?? (terms === null ? "–" : "it dials us")],
          ["Round trip", duration(peer.latencyMs)],
          ["Reconnects", count(Math.max(0, peer.connects - 1))],
          ["In flight, from / to it", `${count(peer.inFlight)} / ${count(peer.inFlightOut ?? 0)}`, "Packets without an answer yet"],
          ["From it: fulfilled / rejected", `${count(peer.fulfilledIn)} / ${count(peer.rejectedIn)}`, "Its packets, as we answered them, since the start"],
          ["To it: fulfilled / rejected", `${count(peer.fulfilledOut)} / ${count(peer.rejectedOut)}`, "As it answered them, since the start"],
          ["Resent, by it / by us", `${count(peer.resentIn)} / ${count(peer.resentOut)}`, "After a broken connection"],
        ]}
      />
    </Panel>
  );
}

export function PeerLimits(props: { peer: PeerItem; account: Account; terms: Asked<PeerTerms> }) {
  const { peer, account } = props;
  const { value: terms, fault } = props.terms;
  const asset = { code: account.code, scale: account.scale };
  const money = (value: string | null, none = "no bound") => (value === null ? <span class="muted">{none}</span> : <Money value={BigInt(value)} asset={asset} />);
  const perTime = (limit: string | null, left: string | null | undefined) =>
    limit === null ? (
      <span class="muted">no bound</span>
    ) : (
      <>
        <Money value={BigInt(limit)} asset={asset} /> per {span(terms?.throughputWindowSeconds ?? 0)}
        {left != null && (
          <span class="muted">
            {" "}
            · <Money value={BigInt(left)} asset={asset} unit={false} /> left
          </span>
        )}
      </>
    );
  return (
    <Panel title="Limits" aside={terms !== null && terms.changed.length > 0 ? <span class="muted">changed: {terms.changed.join(", ")}</span> : undefined}>
      {fault !== "" && (
        <p class="fault pad" role="alert">
          They could not be loaded: {fault}
        </p>
      )}
      {terms !== null && (
        <Facts
          rows={[
            ["It may owe us", money(terms.creditLimit)],
            ["We may owe it", money(terms.maxPayable)],
            ["In flight, each way", money(terms.maxInFlightValue)],
            ["A packet from it", money(terms.maxPacketAmount)],
            ["Packets from it", terms.rateLimit === null ? <span class="muted">no bound</span> : `${count(terms.rateLimit)} /s`],
            ["Value from it", perTime(terms.throughputIn, peer.throughputInLeft)],
            ["Value to it", perTime(terms.throughputOut, peer.throughputOutLeft)],
            ["We settle from", money(terms.settleThreshold, "never by itself")],
            ["… down to", money(terms.settleTo)],
            ["Prepaid at most", money(terms.maxPrepaid), "What its engine can make us owe it without an operator"],
            ["Paid by", terms.settlementEngineUrl ?? "the node's engine, or an operator"],
          ]}
        />
      )}
    </Panel>
  );
}

const ROUTES_SHOWN_MAX = 12;

export function PeerRoutes(props: { peerId: string; terms: PeerTerms | null }) {
  const { peerId, terms } = props;
  const own = routes.value.filter((route) => route.nextHop === peerId);
  const rates = useAsk<Page<RateItem>>("api/rates", {});
  const code = terms?.assetCode ?? "";
  const related = (rates.value?.items ?? []).filter((one) => one.from.split("/")[0] === code || one.to.split("/")[0] === code);
  const told = (choice: boolean | null, what: string) => (choice === null ? `${what} by its relation` : choice ? what : `not ${what}`);
  return (
    <Panel title="Routes and fees" aside={<span class="muted">{own.length === 0 ? "no route leads to it" : `${count(own.length)} ${own.length === 1 ? "route" : "routes"}`}</span>}>
      {own.length > 0 && (
        <table class="grid" data-testid="peer-routes">
          <thead>
            <tr>
              <th scope="col">Prefix</th>
              <th scope="col">Source</th>
              <th scope="col">Announced to</th>
            </tr>
          </thead>
          <tbody>
            {own.slice(0, ROUTES_SHOWN_MAX).map((route) => (
              <tr key={`${route.prefix} ${route.source}`}>
                <td class="mono break">{route.prefix === "" ? <i>everything else</i> : route.prefix}</td>
                <td>
                  <Chip kind="quiet">{route.source}</Chip>
                </td>
                <td class="break">{(route.announcedTo ?? []).join(", ") || <span class="muted">nobody</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {own.length > ROUTES_SHOWN_MAX && (
        <p class="pad">
          <button
            type="button"
            class="link"
            onClick={() => {
              goTo("peers", { route: peerId });
            }}
          >
            and {count(own.length - ROUTES_SHOWN_MAX)} more
          </button>
        </p>
      )}
      {terms !== null && (
        <Facts
          rows={[
            ["Fee on what it sends", terms.feeBasisPoints === 0 ? <span class="muted">none</span> : `${terms.feeBasisPoints / 100} %`],
            ...related.slice(0, 6).map((one) => [`1 ${one.from.split("/")[0]} in ${one.to.split("/")[0]}`, `${one.rate.slice(0, 20)} (${one.source})`] as const),
            ["Routes to it", told(terms.sendRoutes, "announced")],
            ["Routes from it", told(terms.receiveRoutes, "taken")],
          ]}
        />
      )}
      <Explain />
    </Panel>
  );
}

export function PeerKeys(props: { peerId: string; connected: boolean }) {
  const keys = useAsk<Keys>("api/keys", {}, [props.connected]);
  const own = keys.value?.items.find((one) => one.peerId === props.peerId);
  if (keys.fault !== "") {
    return (
      <Panel title="Keys">
        <p class="fault pad" role="alert">
          They could not be loaded: {keys.fault}
        </p>
      </Panel>
    );
  }
  if (own === undefined) return null;
  return (
    <Panel title="Keys">
      <Facts
        rows={[
          ["Secret", own.secretFingerprint === null ? "–" : <code class="print">{own.secretFingerprint}</code>, "A salted fingerprint: whether it has changed, and nothing about it"],
          ["In use for", own.secretAgeSeconds === null ? "not known" : span(own.secretAgeSeconds)],
          ["Link", own.tls ? "wss, with TLS" : "plain ws"],
          ["Who dials", own.dials ? "we dial it" : "it dials us"],
        ]}
      />
    </Panel>
  );
}

const SETTLEMENTS_SHOWN = 12;

/** Its last settlements, with the words of the commands and of the API. */
export function PeerSettlements(props: { peerId: string }) {
  const { peerId } = props;
  const found = useAsk<Page<SettlementItem>>("api/settlements", { peer: peerId, limit: SETTLEMENTS_SHOWN }, [settlements.value, store.lastSettlement(peerId)?.seq]);
  const items = found.value?.items ?? [];
  return (
    <Panel title="Settlements" aside={items.length > 0 ? <Export name={`settlements-${peerId}`} label={`Settlements with ${peerId} as CSV`} collect={() => settlementsOf(peerId)} /> : undefined}>
      {found.fault !== "" ? (
        <p class="fault pad" role="alert">
          Settlements could not be loaded: {found.fault}
        </p>
      ) : items.length === 0 ? (
        <p class="muted pad">None yet.</p>
      ) : (
        <div class="scroll-x" tabIndex={0} role="group" aria-label="The last settlements">
          <table class="grid" aria-label={`Settlements with ${peerId}`} data-testid="peer-settlements">
            <thead>
              <tr>
                <th scope="col">Begun</th>
                <th scope="col">Direction</th>
                <th scope="col" class="right">
                  Amount
                </th>
                <th scope="col">Phase</th>
                <th scope="col" class="roomy">
                  Paid by
                </th>
                <th scope="col" class="roomy">
                  Id
                </th>
              </tr>
            </thead>
            <tbody>
              {items.map((one) => (
                <tr key={one.settlementId}>
                  <td class="num muted" title={new Date(one.createdMs).toISOString()}>
                    {dateClock(one.createdMs)}
                  </td>
                  <td>{one.direction === "incoming" ? "it paid us" : "we pay it"}</td>
                  <td class="right">
                    <Balance value={BigInt(one.amount)} asset={{ code: one.assetCode, scale: one.assetScale }} />
                  </td>
                  <td title={one.error}>
                    <Chip kind={one.error !== "" ? "bad" : one.phase === "completed" ? "ok" : one.phase === "waiting" ? "warn" : "busy"}>{one.phase}</Chip>
                    {one.error !== "" && <small class="muted"> {one.error.slice(0, 80)}</small>}
                  </td>
                  <td class="roomy">{one.payer}</td>
                  <td class="roomy mono muted" title={one.settlementId}>
                    {shortId(one.settlementId)}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

const PACKETS_SHOWN = 15;

/** Its last packets: those of the feed, and before them those that are stored. */
export function PeerPackets(props: { peerId: string }) {
  const { peerId } = props;
  void store.packetsVersion.value;
  const stored = useAsk<Page<WireEvent>>("api/events", { peer: peerId, type: "PACKET_FULFILLED,PACKET_REJECTED", limit: PACKETS_SHOWN }, [store.gaps.value]);
  const past = useMemo(() => {
    const log = new PacketLog(PACKETS_SHOWN, PACKETS_SHOWN);
    log.addPast((stored.value?.items ?? []).filter(isPacketEvent));
    return log.rows(() => true);
  }, [stored.value]);
  const live = store.packets.rows((row) => row.peerId === peerId || row.nextHop === peerId, PACKETS_SHOWN);
  const known = new Set(live.map((row) => row.id));
  const rows: PacketRow[] = [...live, ...past.filter((row) => !known.has(row.id))].sort((a, b) => b.at - a.at).slice(0, PACKETS_SHOWN);
  return (
    <Panel
      title="Packets"
      aside={
        <>
          <button
            type="button"
            class="link"
            onClick={() => {
              goTo("packets", { peer: peerId });
            }}
          >
            All packets
          </button>
          {rows.length > 0 && <Export name={`packets-${peerId}`} label={`Packets of ${peerId} as CSV`} collect={(onCount) => packetsOf(peerId, onCount)} />}
        </>
      }
    >
      {stored.fault !== "" && (
        <p class="fault pad" role="alert">
          Stored packets could not be loaded: {stored.fault}
        </p>
      )}
      {rows.length === 0 ? (
        <Empty title="No packets yet">What it sends, and what is sent to it, appears here.</Empty>
      ) : (
        <ul class="lasts" data-testid="peer-packets">
          {rows.map((row) => (
            <li key={row.id}>
              <button
                type="button"
                class="last peer-last"
                onClick={() => {
                  goTo("packets", { peer: peerId, packet: row.id });
                }}
              >
                <span class="num muted">{clock(row.at)}</span>
                <span class="last-way">
                  {row.peerId === peerId ? <>from it{row.nextHop === null ? "" : ` → ${name(row.nextHop)}`}</> : <>{name(row.peerId)} → to it</>}
                  <span class="mono muted"> {row.destination}</span>
                </span>
                <Money value={row.amount} asset={store.assetOf(row.peerId)} />
                <StateChip row={row} state={row.state} />
                <span class="num muted roomy">{duration(row.durationMs)}</span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}
