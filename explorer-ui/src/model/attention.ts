/** What an operator should look at: what waits for a decision, then the worst first. Empty: all is well. */

import { type Account, creditUsed, levelOf, towardsSettlement, waitingInWords } from "./accounts";
import { amount, plural, share as shareText } from "./format";
import type { AccountingView, PeerItem, Status } from "./types";
import type { Tab } from "./url";

export interface Concern {
  readonly key: string;
  readonly level: "amber" | "rose";
  readonly text: string;
  readonly tab: Tab;
  readonly query: Readonly<Record<string, string>>;
}

export const ACCOUNTING_WORDS: Readonly<Record<string, string>> = {
  available: "available",
  spooling: "spooling: the ledger is away, packets go on",
  rejecting: "rejecting: new packets are refused",
  unavailable: "unavailable: new packets are refused",
};

/** For how long a loop is shown after its last packet, as in `/api/status`. */
const LOOP_SHOWN_MS = 300_000;

/** What is the matter with the accounting, why, and how much waits for it. */
export function accountingInWords(accounting: AccountingView): string {
  const spooled = accounting.spooled ?? 0;
  const waits = spooled > 0 ? ` (${plural(spooled, "transfer")} ${spooled === 1 ? "waits" : "wait"})` : "";
  const why = accounting.reason ? `. ${accounting.reason}` : "";
  return `Accounting ${ACCOUNTING_WORDS[accounting.state] ?? accounting.state}${waits}${why}`;
}

export function concerns(
  status: Status,
  peers: readonly PeerItem[],
  accounts: readonly Account[],
  success: number | null,
  differing: readonly string[] = [],
  nowMs: number = Date.now(),
): Concern[] {
  const found: Concern[] = [];
  const toDecide: Concern[] = [];
  const accounting = status.accounting.state;
  if (accounting !== "available") {
    found.push({
      key: "accounting",
      level: accounting === "spooling" ? "amber" : "rose",
      text: accountingInWords(status.accounting),
      tab: "dashboard",
      query: {},
    });
  }
  for (const link of differing) {
    found.push({
      key: `books ${link}`,
      level: "rose",
      text: `The books of ${link} differ`,
      tab: "dashboard",
      query: {},
    });
  }
  for (const loop of status.routingLoops ?? []) {
    if (nowMs - Date.parse(loop.lastAt) >= LOOP_SHOWN_MS) continue;
    found.push({
      key: `loop ${loop.peerId} ${loop.nextHop} ${loop.prefix}`,
      level: "amber",
      text: `Routing loop: packets sent to ${loop.nextHop} by ${loop.prefix === "" ? "the default route" : loop.prefix} come back from ${loop.peerId}`,
      tab: "packets",
      query: { state: "rejected" },
    });
  }
  for (const short of status.nextHopsShort ?? []) {
    if (nowMs - Date.parse(short.lastAt) >= LOOP_SHOWN_MS) continue;
    found.push({
      key: `short ${short.peerId}`,
      level: "amber",
      text: `${short.peerId} refuses packets with T04${short.message === "" ? "" : `, "${short.message}"`}: settle with it, or agree on a higher limit`,
      tab: "accounts",
      query: { q: short.peerId },
    });
  }
  if (status.rates?.state === "stale") {
    found.push({
      key: "rates",
      level: "amber",
      text: "Live exchange rates are too old: packets that need one are refused with T00",
      tab: "dashboard",
      query: {},
    });
  }
  for (const peer of peers) {
    if (peer.connected) continue;
    found.push({
      key: `peer ${peer.peerId}`,
      level: "rose",
      text: `${peer.peerId} is not connected${peer.lastError === "" ? "" : `: ${peer.lastError}`}`,
      tab: "peers",
      query: { peer: peer.peerId },
    });
  }
  for (const account of accounts) {
    if (account.waiting.count > 0) {
      const sum = `${amount(account.waiting.amount, account.scale)} ${account.code}`;
      toDecide.push({
        key: `${account.key} waiting`,
        level: "amber",
        text: `${account.peerId}: ${waitingInWords(account.waiting)}, ${sum}${account.waiting.count > 1 ? " in all" : ""}`,
        tab: "accounts",
        query: { q: account.peerId },
      });
    }
    const credit = creditUsed(account).share;
    const settle = towardsSettlement(account)?.share ?? null;
    for (const [what, share] of [["of its credit used", credit], [(settle ?? 0) > 100 ? "of its settlement threshold" : "of the way to settlement", settle]] as const) {
      const level = levelOf(share);
      if (level === "calm") continue;
      found.push({
        key: `${account.key} ${what}`,
        level,
        text: `${account.peerId}: ${shareText(share ?? 0)} ${what}`,
        tab: "accounts",
        query: { q: account.peerId },
      });
    }
  }
  if (success !== null && success < 90) {
    found.push({
      key: "success",
      level: success < 50 ? "rose" : "amber",
      text: `Only ${success.toFixed(success < 10 ? 1 : 0)} % of the last minute's packets were fulfilled`,
      tab: "packets",
      query: { state: "rejected" },
    });
  }
  return [...toDecide, ...found.sort((a, b) => (a.level === b.level ? 0 : a.level === "rose" ? -1 : 1))];
}
