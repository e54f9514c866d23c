/**
 * All that the page knows of the node. Events come in, signals go out.
 *
 * Events are gathered and applied once per drawn frame, so a busy node costs the page no more than
 * a calm one. Numbers that change with every packet are signals of their own, so only what shows
 * them is drawn again.
 */

import { batch, type Signal, signal } from "@preact/signals";
import { type Account, accountKey, accountOf } from "./accounts";
import type { FeedState } from "./feed";
import { isPacketEvent, PacketLog } from "./packets";
import { percentile, RateSeries } from "./series";
import type {
  AccountItem,
  LoopEvent,
  NodeStatusEvent,
  PeerItem,
  RoutingLoop,
  ShortEvent,
  SettlementEvent,
  Snapshot,
  Status,
  WireEvent,
} from "./types";

/** What happened besides packets: links, settlements, accounting, administration. */
export interface Incident {
  readonly seq: number;
  readonly at: number;
  readonly event: WireEvent;
}

export interface BalancePoint {
  readonly at: number;
  readonly net: bigint;
}

export interface Load {
  readonly state: "loading" | "ready" | "error";
  readonly message: string;
}

export const LOADING: Load = { state: "loading", message: "" };
export const READY: Load = { state: "ready", message: "" };

const INCIDENTS_MAX = 200;
const POINTS_MAX = 4000;
const LATENCIES_MAX = 2000;
const LOOPS_MAX = 64;

export class Store {
  readonly connection = signal<FeedState>("connecting");
  readonly load = signal<Load>(LOADING);
  readonly needsLogin = signal(false);
  readonly status = signal<Status | null>(null);
  readonly lastStatus = signal<NodeStatusEvent | null>(null);
  readonly accountKeys = signal<readonly string[]>([]);
  readonly peers = signal<readonly PeerItem[]>([]);
  readonly packetsVersion = signal(0);
  readonly ratesVersion = signal(0);
  readonly incidents = signal<readonly Incident[]>([]);
  readonly routesVersion = signal(0);
  /** Of the last minute: packets that were counted and have no row. */
  readonly countedPerMinute = signal(0);
  /** How many times events were missing since the page was opened. */
  readonly gaps = signal(0);
  /** By how much the last frame was later than the quickest one, ms. */
  readonly lateMs = signal(0);
  readonly latency = signal<{ p50: number | null; p99: number | null }>({ p50: null, p99: null });

  readonly packets = new PacketLog();
  readonly rates = new RateSeries();
  private readonly accounts = new Map<string, Signal<Account>>();
  private readonly points = new Map<string, BalancePoint[]>();
  private readonly counted: { at: number; count: number }[] = [];
  private latencies: { at: number; ms: number }[] = [];
  private countedBefore: number | null = null;
  private offsetMs = Number.POSITIVE_INFINITY;
  /** When the feed was last heard, by the page's clock. */
  heardAt = Number.POSITIVE_INFINITY;
  /** When the first snapshot came, by the page's clock. */
  firstAt = Number.POSITIVE_INFINITY;

  /** What to add to the page's clock to have the daemon's. */
  get skewMs(): number {
    // The way here takes a moment too: only a difference that is more than that is one of clocks.
    return Number.isFinite(this.offsetMs) && Math.abs(this.offsetMs) > 500 ? -this.offsetMs : 0;
  }

  account(key: string): Signal<Account> | undefined {
    return this.accounts.get(key);
  }

  allAccounts(): Account[] {
    return this.accountKeys.value.flatMap((key) => {
      const one = this.accounts.get(key);
      return one === undefined ? [] : [one.value];
    });
  }

  /** The asset of amounts with a peer; the empty id is this node itself. */
  assetOf(peerId: string | null): { code: string; scale: number } | null {
    for (const one of this.accounts.values()) {
      const account = one.peek();
      if (account.peerId === peerId) return { code: account.code, scale: account.scale };
    }
    if (peerId !== "") return null;
    const first = this.accounts.values().next().value?.peek();
    return first === undefined ? null : { code: first.code, scale: first.scale };
  }

  /** Balances of this account since the page was opened, oldest first. */
  livePoints(key: string): readonly BalancePoint[] {
    return this.points.get(key) ?? [];
  }

  snapshot(snapshot: Snapshot, now: number): void {
    batch(() => {
      this.status.value = withReason(snapshot.status);
      this.peers.value = snapshot.peers;
      this.setAccounts(snapshot.accounts, now);
      for (const event of snapshot.packets) {
        const row = this.packets.apply(event);
        if (row.durationMs !== null) this.latencies.push({ at: row.at, ms: row.durationMs });
      }
      this.packetsVersion.value += 1;
      this.routesVersion.value += 1;
      // Counters of the node begin anew with it, and so does what it knows of the past.
      this.rates.clear();
      this.countedBefore = snapshot.status.packetsCounted ?? null;
      this.offsetMs = Number.POSITIVE_INFINITY;
      this.load.value = READY;
      this.firstAt = Math.min(this.firstAt, now);
    });
  }

  /** The accounts, whole: those that are no longer named go away. */
  setAccounts(items: readonly AccountItem[], now: number): void {
    const named = new Set(items.map((item) => accountKey(item.peerId, item.assetCode, item.assetScale)));
    for (const key of this.accounts.keys()) if (!named.has(key)) this.accounts.delete(key);
    for (const item of items) this.setAccount(item, now);
    this.accountKeys.value = [...this.accounts.keys()];
  }

  /** What waits for an operator, of accounts that are known; their balances come from events. */
  setWaiting(items: readonly AccountItem[]): void {
    batch(() => {
      for (const item of items) {
        const known = this.accounts.get(accountKey(item.peerId, item.assetCode, item.assetScale));
        if (known !== undefined) known.value = { ...known.peek(), waiting: accountOf(item).waiting };
      }
    });
  }

  /** Whether an event can have changed what waits for an operator. */
  changesWaiting(event: WireEvent): boolean {
    if (!event.type.startsWith("SETTLEMENT_")) return false;
    if (event.type === "SETTLEMENT_WAITING") return true;
    const { peerId } = event as SettlementEvent;
    return [...this.accounts.values()].some((one) => one.peek().peerId === peerId && one.peek().waiting.count > 0);
  }

  private setAccount(item: AccountItem, at: number): void {
    const known = this.accounts.get(accountKey(item.peerId, item.assetCode, item.assetScale));
    const next = accountOf(item, known?.peek().waiting);
    if (known === undefined) {
      this.accounts.set(next.key, signal(next));
      this.accountKeys.value = [...this.accounts.keys()];
    } else {
      known.value = next;
    }
    const points = this.points.get(next.key) ?? [];
    this.points.set(next.key, points);
    if (points.length === 0 || points[points.length - 1]?.net !== next.net) {
      points.push({ at, net: next.net });
      if (points.length > POINTS_MAX * 1.2) points.splice(0, points.length - POINTS_MAX);
    }
  }

  /** Events of the feed; `now` is the page's own clock. */
  apply(events: readonly WireEvent[], now: number): void {
    batch(() => {
      let packets = false;
      for (const event of events) {
        if (isPacketEvent(event)) {
          this.packets.apply(event);
          packets = true;
          if (event.type === "PACKET_FULFILLED" || event.type === "PACKET_REJECTED") {
            this.latencies.push({ at: Date.parse(event.timestamp), ms: event.durationMs });
          }
          continue;
        }
        switch (event.type) {
          case "ACCOUNT_BALANCE": {
            this.setAccount(event, Date.parse(event.timestamp));
            break;
          }
          case "NODE_STATUS":
            this.applyStatus(event);
            break;
          case "ACCOUNTING_STATE":
            this.note(event);
            if (this.status.value !== null) {
              this.status.value = {
                ...this.status.value,
                accounting: { state: event.state, backend: event.backend, spooled: event.spooled, reason: event.error },
              };
            }
            break;
          case "PEER_CONNECTED":
          case "PEER_DISCONNECTED": {
            this.note(event);
            const up = event.type === "PEER_CONNECTED";
            this.peers.value = this.peers.value.map((peer) =>
              peer.peerId === event.peerId
                ? { ...peer, connected: up, direction: up ? event.direction : null, lastError: up ? "" : event.reason }
                : peer,
            );
            break;
          }
          case "NEXT_HOP_SHORT":
            this.applyShort(event);
            break;
          case "ROUTING_LOOP":
            this.note(event);
            this.applyLoop(event);
            break;
          case "ROUTE_ADDED":
          case "ROUTE_REMOVED":
            this.routesVersion.value += 1;
            this.note(event);
            break;
          default:
            this.note(event);
        }
      }
      if (packets) this.packetsVersion.value += 1;
      const last = events[events.length - 1];
      if (last !== undefined) this.noteLateness(Date.parse(last.timestamp), now);
    });
  }

  private applyLoop(event: LoopEvent): void {
    const status = this.status.value;
    if (status === null) return;
    const { peerId, nextHop, prefix, timestamp } = event;
    const loops = status.routingLoops ?? [];
    const same = (one: RoutingLoop) => one.peerId === peerId && one.nextHop === nextHop && one.prefix === prefix;
    const packets = (loops.find(same)?.packets ?? 0) + event.packets;
    const loop = { peerId, nextHop, prefix, packets, lastAt: timestamp };
    this.status.value = { ...status, routingLoops: [loop, ...loops.filter((one) => !same(one))].slice(0, LOOPS_MAX) };
  }

  private applyShort(event: ShortEvent): void {
    const status = this.status.value;
    if (status === null) return;
    const { peerId, triggeredBy, message, timestamp } = event;
    const known = status.nextHopsShort ?? [];
    const packets = (known.find((one) => one.peerId === peerId)?.packets ?? 0) + event.packets;
    const short = { peerId, triggeredBy, message, packets, lastAt: timestamp };
    const others = known.filter((one) => one.peerId !== peerId);
    this.status.value = { ...status, nextHopsShort: [short, ...others].slice(0, LOOPS_MAX) };
  }

  private applyStatus(event: NodeStatusEvent): void {
    const status = this.status.value;
    this.lastStatus.value = event;
    if (status !== null) {
      this.status.value = {
        ...status,
        ilpAddress: event.ilpAddress,
        version: event.version,
        uptimeSeconds: event.uptimeSeconds,
        peersConnected: event.peersConnected,
        peersTotal: event.peersTotal,
        routes: event.routes,
        accounting: {
          ...status.accounting,
          state: event.accounting,
          spooled: event.accountingSpooled ?? status.accounting.spooled ?? 0,
          reason: event.accountingReason ?? status.accounting.reason ?? "",
        },
        packetsInFlight: event.packetsInFlight ?? status.packetsInFlight,
        packetsFulfilled: event.packetsFulfilled ?? status.packetsFulfilled,
        packetsRejected: event.packetsRejected ?? status.packetsRejected,
        ...(event.rates === undefined ? {} : { rates: { ...status.rates, state: event.rates } }),
      };
    }
    const at = Date.parse(event.timestamp);
    const counted = (event.packetsCounted ?? 0) - (this.countedBefore ?? event.packetsCounted ?? 0);
    if (counted > 0) this.counted.push({ at, count: counted });
    this.countedBefore = event.packetsCounted ?? null;
    while (this.counted[0] !== undefined && this.counted[0].at < at - 60_000) this.counted.shift();
    this.countedPerMinute.value = this.counted.reduce((sum, one) => sum + one.count, 0);
    this.latencies = this.latencies.filter((one) => one.at > at - 60_000).slice(-LATENCIES_MAX);
    const whole = this.latencies.map((one) => one.ms);
    this.latency.value = {
      p50: event.latencyP50Ms ?? percentile(whole, 0.5),
      p99: event.latencyP99Ms ?? percentile(whole, 0.99),
    };
  }

  private note(event: WireEvent): void {
    const incident = { seq: event.seq, at: Date.parse(event.timestamp), event };
    this.incidents.value = [incident, ...this.incidents.value].slice(0, INCIDENTS_MAX);
  }

  /** What happened before this page was opened, from the log; newest first. */
  recall(events: readonly WireEvent[]): void {
    const known = new Set(this.incidents.value.map((one) => one.seq));
    const past = events.filter((event) => !known.has(event.seq)).map((event) => ({ seq: event.seq, at: Date.parse(event.timestamp), event }));
    if (past.length === 0) return;
    this.incidents.value = [...this.incidents.value, ...past].sort((a, b) => b.seq - a.seq).slice(0, INCIDENTS_MAX);
  }

  /** The clocks of daemon and page differ: only what is later than the quickest frame counts. */
  private noteLateness(sentMs: number, now: number): void {
    const offset = now - sentMs;
    this.offsetMs = Math.min(this.offsetMs, offset);
    const late = offset - this.offsetMs;
    if (Math.abs(late - this.lateMs.value) > 250 || late < 250) this.lateMs.value = late < 250 ? 0 : late;
  }

  /** The last settlement event of a peer, if one was seen. */
  lastSettlement(peerId: string): SettlementEvent | null {
    for (const { event } of this.incidents.value) {
      if (event.type.startsWith("SETTLEMENT_") && (event as SettlementEvent).peerId === peerId) {
        return event as SettlementEvent;
      }
    }
    return null;
  }
}

/** The reason for the whole node's health begins with what is told of the accounting anyway. */
export function withReason(status: Status): Status {
  const { accounting, reason } = status;
  const why = accounting.state === "available" ? "" : reason.replace(/^accounting \w+: ?/, "");
  return { ...status, accounting: { ...accounting, reason: why } };
}

/** Gathers events and hands them on once per drawn frame. */
export class Gatherer {
  private events: WireEvent[] = [];
  private scheduled = false;

  constructor(
    private readonly apply: (events: readonly WireEvent[]) => void,
    private readonly schedule: (work: () => void) => void,
  ) {}

  add(events: readonly WireEvent[]): void {
    for (const event of events) this.events.push(event);
    if (this.scheduled) return;
    this.scheduled = true;
    this.schedule(() => {
      this.flush();
    });
  }

  flush(): void {
    this.scheduled = false;
    const events = this.events;
    this.events = [];
    if (events.length > 0) this.apply(events);
  }
}
