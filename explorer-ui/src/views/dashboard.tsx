/** The node in five seconds: do packets flow, who owes whom, what is wrong. */

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get } from "../model/api";
import { amount, clock, compact, count, duration, exactTitle, owes, plural, span, units } from "../model/format";
import { movedIn, type RateBucket } from "../model/series";
import type { History, NodeStatusEvent, Page } from "../model/types";
import { Chip, cls, Dot, Empty, Money, Panel, Segments } from "../parts/bits";
import { RateChart, type RateLine, Spark } from "../parts/chart";
import { NetworkPanel } from "../parts/network";
import { lastMinute, rate, rows, success, total } from "../situation";
import { failed, goTo, now, place, setQuery, store } from "../state";
import { Inbox, State } from "./inbox";
import { name, StateChip } from "./packets";

const WINDOWS: readonly (readonly [string, string, number])[] = [
  ["1m", "1 min", 60],
  ["5m", "5 min", 300],
  ["15m", "15 min", 900],
];
const POINTS = 150;
const TONES = ["sky", "violet", "amber"];

let filledIn = false;
/** Why the minutes before the page was opened are not known. */
const unfilled = signal("");

/** Rates of the minutes before the page was opened, from the stored counters. */
async function fillIn(): Promise<void> {
  if (filledIn) return;
  filledIn = true;
  try {
    const page = await get<Page<NodeStatusEvent>>("api/events", {
      type: "NODE_STATUS",
      from: Date.now() - 900_000,
      limit: 200,
    });
    // All of it or nothing: what is asked for again must not count twice.
    const moved = await movedBefore();
    const first = store.firstAt;
    const items = [...page.items].reverse();
    for (const [index, after] of items.entries()) {
      const before = items[index - 1];
      if (before === undefined || after.uptimeSeconds < before.uptimeSeconds) continue;
      const to = Date.parse(after.timestamp);
      if (to > first) break;
      store.rates.counted(
        Date.parse(before.timestamp),
        to,
        (after.packetsFulfilled ?? 0) - (before.packetsFulfilled ?? 0),
        (after.packetsRejected ?? 0) - (before.packetsRejected ?? 0),
      );
    }
    for (const [key, { debit, credit }] of moved) {
      const [second = "", asset = ""] = key.split(" ", 2);
      const at = parseInt(second, 10) * 1000;
      if (at < first - 1000) store.rates.value(at, asset, debit > credit ? debit : credit);
    }
    store.ratesVersion.value += 1;
    unfilled.value = "";
  } catch (error) {
    unfilled.value = failed(error);
    filledIn = false;
  }
}

const ACCOUNTS_ASKED_MAX = 12;

/** Value of those minutes, from the balances of the accounts, by second and asset. */
async function movedBefore(): Promise<Map<string, { debit: bigint; credit: bigint }>> {
  const sums = new Map<string, { debit: bigint; credit: bigint }>();
  for (const account of store.allAccounts().slice(0, ACCOUNTS_ASKED_MAX)) {
    const history = await get<History>(`api/accounts/${encodeURIComponent(account.peerId)}/history`, {
      from: Date.now() - 900_000,
      points: 900,
      // Those that the ledger remembers are too far apart to tell in which second it was.
      stored: "true",
    });
    const points = history.items.map((item) => ({
      at: Date.parse(item.timestamp),
      debit: units(item.debitBalance),
      credit: units(item.creditBalance),
    }));
    for (const { second, debit, credit } of movedIn(points)) {
      const key = `${second} ${account.code}|${account.scale}`;
      const sum = sums.get(key) ?? { debit: 0n, credit: 0n };
      sums.set(key, { debit: sum.debit + debit, credit: sum.credit + credit });
    }
  }
  return sums;
}

export function Dashboard() {
  useEffect(() => {
    void fillIn();
  }, []);
  const { query } = place.value;
  const window = WINDOWS.find(([id]) => id === query["range"]) ?? WINDOWS[1] ?? (["5m", "", 300] as const);
  return (
    <div class="dashboard">
      <Top />
      <Numbers />
      <Charts seconds={window[2]} chosen={window[0]} />
      <NetworkPanel />
      <div class="two">
        <Positions />
        <LastPackets />
      </div>
      <Happened />
    </div>
  );
}

function Top() {
  void store.ratesVersion.value;
  if (store.status.value === null) return null;
  return (
    <>
      <State rate={rate()} rows={rows.value} />
      <Inbox rows={rows.value} />
    </>
  );
}

function Numbers() {
  void store.ratesVersion.value;
  const status = store.status.value;
  if (status === null) return null;
  const minute = lastMinute();
  const recent = minute.slice(-5);
  const speed = rate();
  const good = success();
  const { p50, p99 } = store.latency.value;
  const accounting = status.accounting;
  const kind = accounting.state === "available" ? "ok" : accounting.state === "spooling" ? "warn" : "bad";
  const assets = assetsOf(minute);
  return (
    <div class="numbers">
      <Number label="Packets / s" value={speed === null ? "–" : count(Math.round(speed * 10) / 10)} note={`${count(status.packetsFulfilled + status.packetsRejected)} since the start`}>
        <Spark tone="emerald" values={minute.map((one) => one.fulfilled + one.rejected)} />
      </Number>
      <Number
        label="Value / s"
        value={assets.length === 0 ? "0" : ""}
        note={assets.length > 1 ? `${assets.length} assets` : "through this node, last 5 s"}
      >
        {assets.slice(0, 2).map(([key, code, scale]) => {
          const sum = recent.reduce((all, one) => all + (one.value.get(key) ?? 0n), 0n) / BigInt(recent.length);
          return (
            <div key={key} class="number-line num" title={exactTitle(sum, { code, scale })}>
              {compact(sum, scale)} <span class="unit">{code}</span>
            </div>
          );
        })}
      </Number>
      <Number label="Success" value={good === null ? "–" : `${good.toFixed(good === 100 || good < 10 ? 0 : 1)} %`} note="of the last minute">
        <div class={cls("gauge", good !== null && good < 90 && "gauge-low")} role="presentation">
          <div class="gauge-fill" style={{ width: `${good ?? 0}%` }} />
        </div>
      </Number>
      <Number label="In flight" value={count(status.packetsInFlight)} note="not answered yet" />
      <Number label="Latency" value={duration(p50)} note={`median; p99 ${duration(p99)}`} />
      <Number label="Accounting" value="" note={accounting.backend} testId="accounting">
        <Chip kind={kind}>{accounting.state}</Chip>
        {(accounting.spooled ?? 0) > 0 && <small class="num">{count(accounting.spooled ?? 0)} wait</small>}
      </Number>
      <Number
        label="Peers up"
        value={`${status.peersConnected} / ${status.peersTotal}`}
        note={`${plural(status.routes, "route")}, up ${span(status.uptimeSeconds)}`}
      >
        <span class="pips" aria-hidden="true">
          {store.peers.value.slice(0, 40).map((peer) => (
            <Dot key={peer.peerId} kind={peer.connected ? "live" : "bad"} />
          ))}
        </span>
      </Number>
    </div>
  );
}

function Number(props: { label: string; value: string; note: string; testId?: string; children?: preact.ComponentChildren }) {
  return (
    <section class="number" aria-label={props.label} data-testid={props.testId}>
      <h2>{props.label}</h2>
      {props.value !== "" && <div class="number-value num">{props.value}</div>}
      {props.children}
      <div class="number-note">{props.note}</div>
    </section>
  );
}

/** Assets in which value moved, those with the most packets first: key, code, scale. */
function assetsOf(buckets: readonly RateBucket[]): (readonly [string, string, number])[] {
  const keys = new Set<string>();
  for (const account of store.allAccounts()) keys.add(`${account.code}|${account.scale}`);
  for (const one of buckets) for (const key of one.value.keys()) keys.add(key);
  return [...keys].map((key) => {
    const [code = "", scale = "0"] = key.split("|");
    return [key, code, parseInt(scale, 10)] as const;
  });
}

function Charts(props: { seconds: number; chosen: string }) {
  void store.ratesVersion.value;
  const { seconds } = props;
  const [asset, setAsset] = useState("");
  // The second that is not over yet would always look like a fall.
  const last = Math.floor((now.value + store.skewMs) / 1000) - 1;
  const buckets = store.rates.window(last - seconds + 1, last);
  const step = Math.max(1, Math.round(seconds / POINTS));
  const from = (last - seconds + 1) * 1000;
  const to = last * 1000;
  const grouped = <T,>(read: (part: readonly RateBucket[]) => T): T[] => {
    const out: T[] = [];
    for (let index = 0; index < buckets.length; index += step) out.push(read(buckets.slice(index, index + step)));
    return out;
  };
  const lines: RateLine[] = (["fulfilled", "rejected"] as const).map((state) => ({
    key: state,
    label: state,
    tone: state === "fulfilled" ? "emerald" : "rose",
    values: grouped((part) => total(part, state) / part.length),
    text: (value) => `${count(Math.round(value * 10) / 10)} /s`,
  }));
  const assets = assetsOf(buckets);
  const [key, code, scale] = assets.find(([one]) => one === asset) ?? assets[0] ?? ["", "", 0];
  const values = grouped((part) => part.reduce((sum, one) => sum + (one.value.get(key) ?? 0n), 0n) / BigInt(part.length));
  // To draw only: texts are made from the whole numbers beside them.
  const drawn = values.map(globalThis.Number);
  return (
    <div class="two">
      <Panel
        title="Packets per second"
        aside={
          <>
            <span class="legend tone-emerald">
              <span class="swatch" /> fulfilled
            </span>
            <span class="legend tone-rose">
              <span class="swatch" /> rejected
            </span>
            <Segments
              label="Time range"
              options={WINDOWS}
              chosen={props.chosen}
              onChoose={(id) => {
                setQuery({ range: id });
              }}
            />
          </>
        }
      >
        <RateChart label={`Packets per second over the last ${seconds / 60} minutes`} from={from} to={to} stepMs={step * 1000} lines={lines} stacked />
      </Panel>
      <Panel
        title="Value per second"
        aside={
          assets.length > 1 ? (
            <select
              class="input small"
              aria-label="Asset"
              value={key}
              onChange={(event) => {
                setAsset(event.currentTarget.value);
              }}
            >
              {assets.map(([one, name_]) => (
                <option key={one} value={one}>
                  {name_}
                </option>
              ))}
            </select>
          ) : (
            code !== "" && (
              <span class="legend tone-sky">
                <span class="swatch" /> {code}
              </span>
            )
          )
        }
      >
        <RateChart
          label={`Value per second in ${code} over the last ${seconds / 60} minutes`}
          from={from}
          to={to}
          stepMs={step * 1000}
          axis={(value) => compact(BigInt(Math.round(value)), scale)}
          lines={[
            {
              key: "value",
              label: code,
              tone: TONES[0] ?? "sky",
              values: drawn,
              text: (value) => `${amount(values[drawn.indexOf(value)] ?? 0n, scale)} /s`,
            },
          ]}
        />
      </Panel>
      {unfilled.value !== "" && (
        <p class="chart-note wide-note" role="alert">
          The minutes before this page was opened could not be loaded: {unfilled.value}{" "}
          <button type="button" class="link" onClick={() => void fillIn()}>
            Try again
          </button>
        </p>
      )}
    </div>
  );
}

/** Who owes whom, to one scale: to the right they owe us, to the left we owe them. */
function Positions() {
  const accounts = store
    .allAccounts()
    .filter((one) => one.net !== 0n)
    .sort((a, b) => (size(b) > size(a) ? 1 : size(b) < size(a) ? -1 : 0));
  const byAsset = new Map<string, bigint>();
  for (const one of accounts) {
    const key = `${one.code}|${one.scale}`;
    if (size(one) > (byAsset.get(key) ?? 0n)) byAsset.set(key, size(one));
  }
  const all = store.accountKeys.value.length;
  return (
    <Panel title="Who owes whom" aside={<span class="muted">{all - accounts.length > 0 && `${all - accounts.length} even`}</span>}>
      {accounts.length === 0 ? (
        <Empty title={all === 0 ? "No accounts yet" : "Everybody is even"}>Balances appear as packets are fulfilled.</Empty>
      ) : (
        <ul class="positions" data-testid="positions">
          {accounts.slice(0, 12).map((one) => {
            const most = byAsset.get(`${one.code}|${one.scale}`) ?? 1n;
            const part = Math.max(1, Math.round(globalThis.Number((size(one) * 1000n) / most) / 10));
            const side = one.net > 0n ? "owed" : "owing";
            return (
              <li key={one.key}>
                <button
                  type="button"
                  class="position"
                  onClick={() => {
                    goTo("accounts", { q: one.peerId });
                  }}
                >
                  <span class="position-peer">{one.peerId}</span>
                  <span class="position-bar" aria-hidden="true">
                    <span class="position-half">
                      {side === "owing" && <span class="position-fill fill-owing" style={{ width: `${part}%` }} />}
                    </span>
                    <span class="position-half">
                      {side === "owed" && <span class="position-fill fill-owed" style={{ width: `${part}%` }} />}
                    </span>
                  </span>
                  <span class={cls("position-net", side)}>
                    <Money value={one.net} asset={one} signed />
                    <small>{owes(one.net)}</small>
                  </span>
                </button>
              </li>
            );
          })}
          {accounts.length > 12 && <li class="muted pad">and {accounts.length - 12} more</li>}
        </ul>
      )}
    </Panel>
  );
}

function size(account: { net: bigint }): bigint {
  return account.net < 0n ? -account.net : account.net;
}

function LastPackets() {
  void store.packetsVersion.value;
  const rows = store.packets.rows(() => true, 12);
  return (
    <Panel
      title="Last packets"
      aside={
        <button
          type="button"
          class="link"
          onClick={() => {
            goTo("packets");
          }}
        >
          All packets
        </button>
      }
    >
      {rows.length === 0 ? (
        <Empty title="No packets yet">
          Send one: <code>python -m connector send --help</code>
        </Empty>
      ) : (
        <ul class="lasts" data-testid="last-packets">
          {rows.map((row) => (
            <li key={row.id}>
              <button
                type="button"
                class="last"
                onClick={() => {
                  goTo("packets", { packet: row.id });
                }}
              >
                <span class="num muted">{clock(row.at)}</span>
                <span class="last-way">
                  {name(row.peerId)} <span class="muted">→</span> {row.nextHop === null ? "–" : name(row.nextHop)}
                </span>
                <Money value={row.amount} asset={store.assetOf(row.peerId)} />
                <StateChip row={row} state={row.state} />
              </button>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

/** Links, settlements, accounting, administration: what happened besides packets. */
function Happened() {
  const incidents = store.incidents.value;
  if (incidents.length === 0) return null;
  return (
    <Panel title="What happened">
      <ul class="log">
        {incidents.slice(0, 12).map(({ seq, at, event }) => (
          <li key={seq}>
            <span class="num muted">{clock(at)}</span> <Chip kind={toneOf(event.type)}>{event.type.toLowerCase().replaceAll("_", " ")}</Chip>{" "}
            {detail(event as unknown as Record<string, unknown>)}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function toneOf(type: string): string {
  if (type === "PEER_DISCONNECTED" || type === "ROUTING_LOOP" || type === "NEXT_HOP_SHORT" || type.endsWith("_FAILED")) return "bad";
  if (type === "PEER_CONNECTED" || type.endsWith("_COMPLETED")) return "ok";
  return type.startsWith("SETTLEMENT") ? "busy" : "quiet";
}

function detail(event: Record<string, unknown>): string {
  const { peerId, prefix, nextHop, state, action, target, reason, error } = event;
  const parts = [peerId, prefix, nextHop === undefined || prefix === undefined ? "" : `→ ${String(nextHop)}`, state, action, target, reason, error];
  const text = parts.filter((part) => part !== undefined && part !== null && part !== "").join(" ");
  const value =
    typeof event["amount"] === "string" && typeof event["assetScale"] === "number"
      ? ` ${amount(BigInt(event["amount"]), event["assetScale"])} ${String(event["assetCode"])}`
      : "";
  return text + value;
}
