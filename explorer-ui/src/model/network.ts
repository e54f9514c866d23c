/** The network as several nodes tell it: links with both sides' books, and where they differ. */

import { units } from "./format";
import type { AccountItem, Network } from "./types";

export interface NetNode {
  readonly id: string;
  readonly url: string;
  readonly address: string;
  /** healthy, degraded, unhealthy, or unknown when it did not answer. */
  readonly health: string;
  readonly error: string;
}

export type Verdict = "mirrored" | "in motion" | "settling" | "differs" | "one side";

export interface NetLink {
  readonly key: string;
  readonly a: string;
  readonly b: string;
  readonly code: string;
  readonly scale: number;
  /** What each side books as the other's net balance: positive, the other owes it. */
  readonly netAtA: bigint | null;
  readonly netAtB: bigint | null;
  readonly verdict: Verdict;
}

export interface NetPicture {
  readonly nodes: readonly NetNode[];
  readonly links: readonly NetLink[];
}

/** Peer ids are lower case with hyphens; a node may call itself otherwise. */
function peerName(nodeId: string): string {
  return nodeId.toLowerCase().replaceAll("_", "-");
}

/** Everything of both books that must agree, to see whether it stands still. */
function fingerprint(a: AccountItem, b: AccountItem): string {
  return [a, b].map((one) => [one.debitBalance, one.creditBalance, one.pendingDebits, one.pendingCredits].join()).join("|");
}

function mirrors(a: AccountItem, b: AccountItem): boolean {
  return a.debitBalance === b.creditBalance && a.creditBalance === b.debitBalance;
}

function settles(item: AccountItem): boolean {
  return item.settlementState !== "IDLE" || (item.settlementsWaiting ?? 0) > 0;
}

function holds(item: AccountItem): boolean {
  return units(item.pendingDebits) !== 0n || units(item.pendingCredits) !== 0n;
}

/**
 * The picture, and what to hand in the next time. Nodes are asked one after the other, so books of a
 * busy link never match exactly: they differ only when they stood still and still disagree.
 */
export function pictureOf(
  network: Network,
  before: ReadonlyMap<string, string>,
): { picture: NetPicture; still: Map<string, string> } {
  const still = new Map<string, string>();
  const nodes = network.nodes.map((node) => ({
    id: node.nodeId ?? node.url,
    url: node.url,
    address: node.ilpAddress ?? "",
    health: node.error === "" ? (node.status ?? "unknown") : "unknown",
    error: node.error,
  }));
  const byPeerName = new Map(network.nodes.flatMap((node) => (node.nodeId === null ? [] : [[peerName(node.nodeId), node] as const])));
  const links: NetLink[] = [];
  const done = new Set<string>();
  for (const [name, node] of byPeerName) {
    for (const account of node.accounts) {
      const other = byPeerName.get(account.peerId);
      if (other === undefined || other === node || node.nodeId === null || other.nodeId === null) continue;
      const key = [name, account.peerId].sort().join(" ") + ` ${account.assetCode} ${account.assetScale}`;
      if (done.has(key)) continue;
      done.add(key);
      const back = other.accounts.find(
        (one) => one.peerId === name && one.assetCode === account.assetCode && one.assetScale === account.assetScale,
      );
      let verdict: Verdict = "one side";
      if (back !== undefined) {
        const print = fingerprint(account, back);
        still.set(key, print);
        if (mirrors(account, back)) verdict = "mirrored";
        // One side books a settlement before the other hears of it: that is no fault of the books.
        else if (settles(account) || settles(back)) verdict = "settling";
        else verdict = holds(account) || holds(back) || before.get(key) !== print ? "in motion" : "differs";
      }
      links.push({
        key,
        a: node.nodeId,
        b: other.nodeId,
        code: account.assetCode,
        scale: account.assetScale,
        netAtA: units(account.netBalance),
        netAtB: back === undefined ? null : units(back.netBalance),
        verdict,
      });
    }
  }
  return { picture: { nodes, links }, still };
}

/** Node ids from one end to the other where the links form a line; null where they do not. */
export function lineOf(picture: NetPicture): string[] | null {
  const beside = new Map<string, Set<string>>(picture.nodes.map((node) => [node.id, new Set()]));
  for (const { a, b } of picture.links) {
    beside.get(a)?.add(b);
    beside.get(b)?.add(a);
  }
  if (picture.nodes.length < 2) return picture.nodes.map((node) => node.id);
  const ends = picture.nodes.filter((node) => beside.get(node.id)?.size === 1).map((node) => node.id);
  const start = ends[0];
  if (ends.length !== 2 || start === undefined) return null;
  const line = [start];
  for (let at = start, from = ""; line.length <= picture.nodes.length; ) {
    const next = [...(beside.get(at) ?? [])].find((one) => one !== from);
    if (next === undefined || (beside.get(at)?.size ?? 0) > 2) break;
    line.push(next);
    from = at;
    at = next;
  }
  return line.length === picture.nodes.length ? line : null;
}
