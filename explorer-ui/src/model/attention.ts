/** What an operator should look at, worst first. Empty: all is well. */

import { type Account, creditUsed, levelOf, towardsSettlement } from "./accounts";
import type { PeerItem, Status } from "./types";
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

export function concerns(
  status: Status,
  peers: readonly PeerItem[],
  accounts: readonly Account[],
  success: number | null,
): Concern[] {
  const found: Concern[] = [];
  const accounting = status.accounting.state;
  if (accounting !== "available") {
    const spooled = status.accounting.spooled ?? 0;
    found.push({
      key: "accounting",
      level: accounting === "spooling" ? "amber" : "rose",
      text: `Accounting ${ACCOUNTING_WORDS[accounting] ?? accounting}${spooled > 0 ? ` (${spooled} transfers wait)` : ""}`,
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
    const credit = creditUsed(account).share;
    const settle = towardsSettlement(account)?.share ?? null;
    for (const [what, share] of [["of its credit used", credit], ["of the way to settlement", settle]] as const) {
      const level = levelOf(share);
      if (level === "calm") continue;
      found.push({
        key: `${account.key} ${what}`,
        level,
        text: `${account.peerId}: ${share} % ${what}`,
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
  return found.sort((a, b) => (a.level === b.level ? 0 : a.level === "rose" ? -1 : 1));
}
