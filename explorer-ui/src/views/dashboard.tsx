/** The node in five seconds: do packets flow, who owes whom, what is wrong. */

import { clock, compact, count, duration, exactTitle, owes, plural, span } from "../model/format";
import { Balance, Chip, cls, Dot, Empty, Money, Panel, useThrottled } from "../parts/bits";
import { Spark } from "../parts/chart";
import { NetworkPanel } from "../parts/network";
import { lastMinute, rate, rows, success } from "../situation";
import { accounts as balances, goTo, store } from "../state";
import { Happened } from "./happened";
import { Inbox, State } from "./inbox";
import { name, StateChip } from "./packets";
import { assetsOf, Charts } from "./rates";

/** The last packets are drawn anew at most so often. */
const DRAWN_MS = 500;

export function Dashboard() {
  return (
    <div class="dashboard">
      <Top />
      <NetworkPanel />
      <Numbers />
      <Charts />
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
  const assets = assetsOf();
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
          const sum = recent.reduce((all, one) => all + (one.value.get(key) ?? 0n), 0n) / BigInt(Math.max(1, recent.length));
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

/** Who owes whom, to one scale: to the right they owe us, to the left we owe them. */
function Positions() {
  const accounts = balances.value
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
                    goTo("peers", { peer: one.peerId });
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
                    <Balance value={one.net} asset={one} signed />
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
  void useThrottled(store.packetsVersion.value, DRAWN_MS);
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
