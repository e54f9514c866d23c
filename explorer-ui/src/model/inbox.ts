/**
 * What needs somebody: ranked, one row for each kind of thing, with what can be done about it.
 *
 * First what an operator has to decide, then what is broken, then what comes near a limit. Many of a kind
 * are one row, which can be opened.
 */

import { type Account, creditUsed, levelOf, towardsSettlement } from "./accounts";
import { alertName, alertText, pressing } from "./alerts";
import { accountingInWords } from "./attention";
import { exact, plural, share as shareText } from "./format";
import { type Action, actions } from "./operate";
import type { AlertEvent, PeerItem, SettlementItem, Status } from "./types";
import type { Tab } from "./url";

export interface InboxRow {
  readonly key: string;
  readonly level: "rose" | "amber";
  readonly text: string;
  /** More to read, when it is long. */
  readonly detail: string;
  readonly actions: readonly Action[];
  /** Where there is more. */
  readonly tab: Tab;
  readonly query: Readonly<Record<string, string>>;
  /** Of a row that stands for several. */
  readonly items: readonly InboxRow[];
}

/** From so many on, rows of a kind are one. */
const GROUPED_FROM = 2;
const NAMED_MAX = 3;
/** So many decisions of a kind have a row each. */
const DECISIONS_APART = 4;
/** For how long a loop is shown after its last packet, as in `/api/status`. */
const LOOP_SHOWN_MS = 300_000;

const natural = new Intl.Collator("en", { numeric: true });

/** member-2 before member-10. */
export function inOrder(a: string, b: string): number {
  return natural.compare(a, b);
}

function named(names: readonly string[]): string {
  const shown = [...names].sort(inOrder).slice(0, NAMED_MAX).join(", ");
  return names.length > NAMED_MAX ? `${shown} and ${names.length - NAMED_MAX} more` : shown;
}

function row(given: Partial<InboxRow> & Pick<InboxRow, "key" | "level" | "text" | "tab">): InboxRow {
  return { detail: "", actions: [], query: {}, items: [], ...given };
}

/** One row for several of a kind. */
function grouped(rows: readonly InboxRow[], key: string, text: string, names: readonly string[]): InboxRow[] {
  if (rows.length < GROUPED_FROM) return [...rows];
  const level = rows.some((one) => one.level === "rose") ? "rose" : "amber";
  return [row({ key, level, text, detail: named(names), tab: rows[0]?.tab ?? "dashboard", items: rows })];
}

export interface Situation {
  readonly status: Status;
  readonly peers: readonly PeerItem[];
  readonly accounts: readonly Account[];
  readonly settlements: readonly SettlementItem[];
  /** Of the last minute, in percent. */
  readonly success: number | null;
  /** Links of which the books differ. */
  readonly differing: readonly string[];
  /** Warnings of the log, newest first. */
  readonly alerts?: readonly AlertEvent[];
  readonly nowMs: number;
}

export function inbox(at: Situation): InboxRow[] {
  const broken = [...node(at), ...warnings(at), ...links(at), ...routing(at)];
  const rank = (one: InboxRow) => (one.level === "rose" ? 0 : 1);
  return [...decisions(at), ...broken.sort((a, b) => rank(a) - rank(b)), ...limits(at)];
}

function decisions({ settlements, accounts, nowMs }: Situation): InboxRow[] {
  const kinds = { toPay: [] as InboxRow[], waiting: [] as InboxRow[], failed: [] as InboxRow[] };
  const told = new Set<string>();
  for (const one of settlements) {
    const money = `${exact(BigInt(one.amount), one.assetScale)} ${one.assetCode}`;
    const common = { tab: "accounts" as const, query: { q: one.peerId } };
    const step = (name: Parameters<typeof actions.step>[2], force = false) =>
      actions.step(one.peerId, one.settlementId, name, money, force);
    if (one.phase === "booked" && one.payer === "operator") {
      kinds.toPay.push(row({
        ...common, key: one.settlementId, level: "amber", text: `Pay ${one.peerId} ${money}, then confirm`,
        detail: "It is booked; this connector has no settlement engine for it.", actions: [step("confirm"), step("cancel")],
      })); // prettier-ignore
    } else if (one.phase === "waiting") {
      told.add(one.peerId);
      kinds.waiting.push(row({
        ...common, key: one.settlementId, level: "amber", text: `Was ${money} received from ${one.peerId}?`,
        detail: "Its settlement engine reports more than it may vouch for.", actions: [step("accept"), step("decline")],
      })); // prettier-ignore
    } else if (one.phase === "booked" && one.attempts > 0 && one.error !== "") {
      const next = one.nextAttemptMs === null ? "" : `; next try in ${Math.max(0, Math.round((one.nextAttemptMs - nowMs) / 1000))} s`;
      kinds.failed.push(row({
        ...common, key: one.settlementId, level: "rose", text: `Paying ${one.peerId} ${money} has failed ${plural(one.attempts, "time")}`,
        detail: `${one.error}${next}`, actions: [step("retry"), step("cancel", true)],
      })); // prettier-ignore
    }
  }
  for (const account of accounts) {
    // Known from the account, where the list of settlements has not come yet.
    if (account.waiting.count === 0 || told.has(account.peerId)) continue;
    kinds.waiting.push(row({
      key: `${account.key} waiting`, level: "amber", tab: "accounts", query: { q: account.peerId },
      text: `${plural(account.waiting.count, "payment")} of ${account.peerId} ${account.waiting.count === 1 ? "waits" : "wait"} for an operator, ${exact(account.waiting.amount, account.scale)} ${account.code}`,
    })); // prettier-ignore
  }
  const names = (rows: readonly InboxRow[]) => [...new Set(rows.map((one) => one.query["q"] ?? ""))];
  // A few are each worth a row: every one is money that waits for somebody.
  const few = (rows: readonly InboxRow[], key: string, words: string) =>
    rows.length <= DECISIONS_APART ? rows : grouped(rows, key, `${rows.length} ${words}`, names(rows));
  return [
    ...few(kinds.toPay, "to pay", "settlements are to be paid, then confirmed"),
    ...few(kinds.waiting, "waiting", "payments wait for an operator"),
    ...few(kinds.failed, "failed", "settlements fail"),
  ];
}

function node({ status, success, differing }: Situation): InboxRow[] {
  const found: InboxRow[] = [];
  const state = status.accounting.state;
  if (state !== "available") {
    found.push(row({ key: "accounting", level: state === "spooling" ? "amber" : "rose", text: accountingInWords(status.accounting), tab: "dashboard" }));
  }
  for (const link of differing) {
    found.push(row({ key: `books ${link}`, level: "rose", text: `The books of ${link} differ`, tab: "dashboard" }));
  }
  if (status.rates?.state === "stale") {
    found.push(row({ key: "rates", level: "amber", text: "Live exchange rates are too old: packets that need one are refused with T00", tab: "dashboard" }));
  }
  if (success !== null && success < 90) {
    found.push(row({
      key: "success", level: success < 50 ? "rose" : "amber", tab: "packets", query: { state: "rejected" },
      text: `Only ${success.toFixed(success < 10 ? 1 : 0)} % of the last minute's packets were fulfilled`,
    })); // prettier-ignore
  }
  return found;
}

function warnings({ alerts, nowMs }: Situation): InboxRow[] {
  const found = pressing(alerts ?? [], nowMs);
  const rows = found.map((alert) =>
    row({
      key: `alert ${alert.name} ${alert.peerId}`, level: alert.level === "error" ? "rose" : "amber", tab: "log", query: { group: "alert" },
      text: `${alert.level === "error" ? "A fault of this node" : "Warning"}: ${alertName(alert.name)}${alert.peerId === "" ? "" : ` (${alert.peerId})`}`,
      detail: alertText(alert),
    }), // prettier-ignore
  );
  return grouped(rows, "alerts", `${rows.length} warnings in the last hour`, found.map((alert) => alertName(alert.name)));
}

function links({ peers }: Situation): InboxRow[] {
  const down = peers.filter((peer) => !peer.connected && peer.enabled !== false && peer.offlineExpected !== true);
  const rows = [...down]
    .sort((a, b) => inOrder(a.peerId, b.peerId))
    .map((peer) =>
      row({
        key: `peer ${peer.peerId}`, level: "rose", text: `${peer.peerId} is not connected`, detail: peer.lastError, tab: "peers",
        query: { peer: peer.peerId },
        actions: [...(peer.dials === false ? [] : [actions.reconnect(peer.peerId)]), actions.expectOffline(peer.peerId, true)],
      }), // prettier-ignore
    );
  return grouped(rows, "peers down", `${down.length} peers are not connected`, down.map((peer) => peer.peerId));
}

function routing({ status, nowMs }: Situation): InboxRow[] {
  const recent = (at: string) => nowMs - Date.parse(at) < LOOP_SHOWN_MS;
  const loops = (status.routingLoops ?? []).filter((one) => recent(one.lastAt)).map((loop) =>
    row({
      key: `loop ${loop.peerId} ${loop.nextHop} ${loop.prefix}`, level: "amber", tab: "packets", query: { state: "rejected" },
      text: `Routing loop: packets sent to ${loop.nextHop} by ${loop.prefix === "" ? "the default route" : loop.prefix} come back from ${loop.peerId}`,
    }), // prettier-ignore
  );
  const shorts = (status.nextHopsShort ?? []).filter((one) => recent(one.lastAt));
  const short = shorts.map((one) =>
    row({
      key: `short ${one.peerId}`, level: "amber", tab: "accounts", query: { q: one.peerId },
      text: `${one.peerId} refuses packets with T04${one.message === "" ? "" : `, "${one.message}"`}: settle with it, or agree on a higher limit`,
    }), // prettier-ignore
  );
  return [
    ...grouped(loops, "loops", `${loops.length} routing loops`, (status.routingLoops ?? []).map((one) => one.nextHop)),
    ...grouped(short, "short", `${short.length} next hops refuse packets with T04`, shorts.map((one) => one.peerId)),
  ];
}

function limits({ accounts, settlements }: Situation): InboxRow[] {
  const credit: InboxRow[] = [];
  const settle: InboxRow[] = [];
  const underWay = new Set(settlements.filter((one) => one.phase !== "waiting").map((one) => one.peerId));
  for (const account of [...accounts].sort((a, b) => inOrder(a.peerId, b.peerId))) {
    const asset = { code: account.code, scale: account.scale };
    const used = creditUsed(account).share;
    const usedLevel = levelOf(used);
    if (usedLevel !== "calm") {
      credit.push(row({
        key: `${account.key} credit`, level: usedLevel, tab: "accounts", query: { q: account.peerId },
        text: `${account.peerId} has used ${shareText(used ?? 0)} of its credit`,
        detail: `of ${exact(account.creditLimit, account.scale)} ${account.code}`,
        actions: [actions.raiseLimit(account.peerId, asset, exact(account.creditLimit * 2n, account.scale).replaceAll(",", ""))],
      })); // prettier-ignore
    }
    const towards = towardsSettlement(account);
    const level = levelOf(towards?.share ?? null);
    if (level !== "calm" && towards !== null && !underWay.has(account.peerId)) {
      const owed = `${exact(towards.owed, account.scale)} ${account.code}`;
      settle.push(row({
        key: `${account.key} settle`, level, tab: "accounts", query: { q: account.peerId },
        text: `What we owe ${account.peerId} is at ${shareText(towards.share)} of its settlement threshold`, detail: owed,
        actions: [actions.settleNow(account.peerId, owed)],
      })); // prettier-ignore
    }
  }
  const rank = (one: InboxRow) => (one.level === "rose" ? 0 : 1);
  return [
    ...grouped(credit, "credit", `${credit.length} peers have used 70 % of their credit or more`, credit.map((one) => one.query["q"] ?? "")),
    ...grouped(settle, "settle", `${settle.length} accounts are near their settlement threshold`, settle.map((one) => one.query["q"] ?? "")),
  ].sort((a, b) => rank(a) - rank(b));
}

/** How many things need somebody: a row for several stands for one. */
export function needs(rows: readonly InboxRow[]): number {
  return rows.length;
}
