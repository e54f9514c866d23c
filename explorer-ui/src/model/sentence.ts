/** The state of the node in one sentence. */

import type { Account } from "./accounts";
import { count, exact } from "./format";
import type { PeerItem } from "./types";

export interface Sentence {
  /** Clauses, most telling first. */
  readonly parts: readonly { readonly key: string; readonly text: string; readonly tone: "" | "bad" | "owed" | "owing" | "warn" }[];
}

interface Sums {
  scale: number;
  owed: bigint;
  owing: bigint;
}

/** What is owed to us and by us of each currency, at the finest scale of it. */
export function sums(accounts: readonly Account[]): Map<string, Sums> {
  const found = new Map<string, Sums>();
  for (const one of accounts) {
    const sum = found.get(one.code) ?? { scale: one.scale, owed: 0n, owing: 0n };
    if (one.scale > sum.scale) {
      const factor = 10n ** BigInt(one.scale - sum.scale);
      sum.owed *= factor;
      sum.owing *= factor;
      sum.scale = one.scale;
    }
    const net = one.net * 10n ** BigInt(sum.scale - one.scale);
    if (net > 0n) sum.owed += net;
    else sum.owing -= net;
    found.set(one.code, sum);
  }
  return found;
}

/** At least two decimals, and no more than six: to read, not to book. */
export function readable(units: bigint, scale: number): string {
  if (scale <= 2) return exact(units, scale);
  const kept = scale > 6 && units >= 10n ** BigInt(scale - 6) ? 6 : scale;
  const cut = 10n ** BigInt(scale - kept);
  return exact((units + cut / 2n) / cut, kept);
}

export function sentence(at: {
  readonly peers: readonly PeerItem[];
  readonly accounts: readonly Account[];
  /** Packets per second; null: not known yet. */
  readonly rate: number | null;
  readonly needs: number;
}): Sentence {
  const parts: { key: string; text: string; tone: "" | "bad" | "owed" | "owing" | "warn" }[] = [];
  const missing = at.peers.filter((peer) => !peer.connected);
  const excused = missing.filter((peer) => peer.offlineExpected === true || peer.enabled === false).length;
  const up = at.peers.length - missing.length;
  parts.push({
    key: "links",
    text: at.peers.length === 0 ? "no peers" : `${up} of ${at.peers.length} links up${excused > 0 ? ` (${excused} expected to be down)` : ""}`,
    tone: missing.length > excused ? "bad" : "",
  });
  parts.push({ key: "rate", text: at.rate === null ? "packets/s not known yet" : `${count(Math.round(at.rate * 10) / 10)} packets/s`, tone: "" });
  for (const [code, { scale, owed, owing }] of [...sums(at.accounts)].sort(([a], [b]) => a.localeCompare(b))) {
    if (owed > 0n) parts.push({ key: `owed ${code}`, text: `owed ${readable(owed, scale)} ${code}`, tone: "owed" });
    if (owing > 0n) parts.push({ key: `owing ${code}`, text: `owing ${readable(owing, scale)} ${code}`, tone: "owing" });
    if (owed === 0n && owing === 0n) parts.push({ key: `even ${code}`, text: `even in ${code}`, tone: "" });
  }
  parts.push({ key: "needs", text: at.needs === 0 ? "nothing needs you" : `${at.needs} ${at.needs === 1 ? "needs" : "need"} you`, tone: at.needs > 0 ? "warn" : "" });
  return { parts };
}
