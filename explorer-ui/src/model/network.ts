/**
 * The network as several nodes tell it: who is linked to whom, what each side books, what passes, and what a
 * node that is silent said last. Configured peers are part of it, also those of which nobody asks anything.
 */

import { units } from "./format";
import { inOrder } from "./inbox";
import type { AccountItem, Network, NetworkLink, NetworkNode } from "./types";

export interface NetNode {
  /** Its name as peers write it: the same for all who know it. */
  readonly key: string;
  readonly id: string;
  /** Of its page; empty: none is known, or it is this node. */
  readonly url: string;
  readonly address: string;
  readonly kind: "self" | "node" | "peer";
  /** healthy, degraded, unhealthy; of a peer up, down or away; else unknown. */
  readonly health: string;
  /** Why it does not answer. */
  readonly error: string;
  /** A ghost: it does not answer, or has no link. */
  readonly ghost: boolean;
  /** When a silent node said what is shown of it, ms; null: it is not silent, or never said anything. */
  readonly heardAt: number | null;
  /** Whether this node has it as a peer. */
  readonly ours: boolean;
}

export type Verdict = "mirrored" | "in motion" | "settling" | "differs" | "one side" | "not asked" | "last known";

export interface NetSettlement {
  readonly state: "pending" | "under way" | "waits";
  /** The node that pays, or that has to decide. */
  readonly at: string;
  readonly count: number;
  /** Where it is known. */
  readonly amount: bigint | null;
}

export interface NetLink {
  readonly key: string;
  /** Keys of nodes. */
  readonly a: string;
  readonly b: string;
  readonly code: string;
  readonly scale: number;
  /** What each side books as the other's net balance: positive, the other owes it. */
  readonly netAtA: bigint | null;
  readonly netAtB: bigint | null;
  /** Of a side that is silent: when it said so, ms. */
  readonly staleA: number | null;
  readonly staleB: number | null;
  readonly verdict: Verdict;
  readonly state: "up" | "down" | "away" | "unknown";
  readonly settlement: NetSettlement | null;
  /** Packets per second both ways; null: not known (yet). */
  readonly rate: number | null;
  /** Whether most of them go from a to b. */
  readonly forth: boolean;
}

export interface NetPicture {
  readonly nodes: readonly NetNode[];
  readonly links: readonly NetLink[];
  /** URLs that have never answered: nobody knows whose they are. */
  readonly unheard: readonly { readonly url: string; readonly error: string }[];
  /** Nodes and links, and nothing that changes with who answers: the layout depends on it alone. */
  readonly shape: string;
}

interface Count {
  readonly at: number;
  readonly inward: number;
  readonly outward: number;
  readonly rate: number | null;
  readonly forth: boolean;
}

/** What to hand in the next time. */
export interface Memory {
  readonly still: ReadonlyMap<string, string>;
  readonly counts: ReadonlyMap<string, Count>;
}

export const NO_MEMORY: Memory = { still: new Map(), counts: new Map() };

/** Peer ids are lower case with hyphens; a node may call itself otherwise. */
export function peerName(nodeId: string): string {
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

/** More are not looked at: those of this node come first. */
const LINKS_MAX = 2000;

function bookKey(peerId: string, item: AccountItem): string {
  return `${peerId} ${item.assetCode} ${item.assetScale}`;
}

interface Side {
  readonly node: NetworkNode;
  readonly name: string;
  readonly item: NetworkLink;
}

/** When a silent node said what is shown of it; null: it answers. */
function staleOf(side: Side | undefined): number | null {
  return side === undefined || side.node.error === "" ? null : Date.parse(side.node.at ?? "");
}

function stateOf(fresh: readonly Side[]): NetLink["state"] {
  const told = fresh.map((one) => one.item).filter((one) => one.connected !== null && one.connected !== undefined);
  if (told.length === 0) return "unknown";
  if (told.every((one) => one.connected === true)) return "up";
  return told.some((one) => one.connected !== true && (one.offlineExpected === true || one.enabled === false)) ? "away" : "down";
}

function settlementOf(sides: readonly Side[]): NetSettlement | null {
  for (const { item, name } of sides) {
    const count = item.settlementsWaiting ?? 0;
    if (count > 0) return { state: "waits", at: name, count, amount: units(item.settlementsWaitingAmount ?? "0") };
  }
  for (const { item, name } of sides) {
    if (item.settlementState === "IN_PROGRESS") return { state: "under way", at: name, count: 1, amount: null };
    if (item.settlementState === "PENDING") return { state: "pending", at: name, count: 1, amount: null };
  }
  return null;
}

/** Packets a second on a link, from two readings of the same side. */
function counted(key: string, side: Side | undefined, before: Memory, isA: boolean): Count | null {
  const { packetsIn: inward, packetsOut: outward } = side?.item ?? {};
  const at = Date.parse(side?.node.at ?? "");
  if (side === undefined || inward == null || outward == null || Number.isNaN(at)) return null;
  const last = before.counts.get(key);
  if (last === undefined || inward < last.inward || outward < last.outward) return { at, inward, outward, rate: null, forth: true };
  if (at <= last.at) return last;
  const [came, went] = [inward - last.inward, outward - last.outward];
  const out = went >= came;
  return { at, inward, outward, rate: ((came + went) * 1000) / (at - last.at), forth: came + went === 0 ? last.forth : isA ? out : !out };
}

/**
 * The picture, and what to hand in the next time. Nodes are asked one after the other, so books of a
 * busy link never match exactly: they differ only when they stood still and still disagree.
 */
export function pictureOf(network: Network, before: Memory = NO_MEMORY): { picture: NetPicture; memory: Memory } {
  const still = new Map<string, string>();
  const counts = new Map<string, Count>();
  const known = new Map<string, NetworkNode>();
  for (const node of network.nodes) if (node.nodeId !== null) known.set(peerName(node.nodeId), node);
  const booksOf = new Map([...known].map(([name, node]) => [name, new Map(node.accounts.map((one) => [bookKey(one.peerId, one), one] as const))] as const));
  const links = new Map<string, NetLink>();
  /** Of a peer that nobody asks: how those who do answer see it. */
  const strangers = new Map<string, Set<NetLink["state"]>>();
  let self = "";
  for (const [name, node] of known) {
    if (node.url === "") self = name;
    for (const item of node.accounts) {
      const other = known.get(item.peerId);
      if (other === node) continue;
      const key = `${[name, item.peerId].sort().join(" ")} ${item.assetCode} ${item.assetScale}`;
      if (links.has(key) || links.size >= LINKS_MAX) continue;
      const back = other === undefined ? undefined : booksOf.get(item.peerId)?.get(bookKey(name, item));
      const here: Side = { node, name, item };
      const there: Side | undefined = other === undefined || back === undefined ? undefined : { node: other, name: item.peerId, item: back };
      const sides = there === undefined ? [here] : [here, there];
      const fresh = sides.filter((one) => one.node.error === "");
      let verdict: Verdict = fresh.length < sides.length ? "last known" : other === undefined ? "not asked" : "one side";
      if (there !== undefined && fresh.length === 2) {
        const print = fingerprint(here.item, there.item);
        still.set(key, print);
        if (mirrors(here.item, there.item)) verdict = "mirrored";
        // One side books a settlement before the other hears of it: that is no fault of the books.
        else if (settles(here.item) || settles(there.item)) verdict = "settling";
        else verdict = holds(here.item) || holds(there.item) || before.still.get(key) !== print ? "in motion" : "differs";
      }
      const count = counted(key, fresh[0], before, fresh[0] === here);
      if (count !== null) counts.set(key, count);
      const state = stateOf(fresh);
      if (other === undefined) {
        const seen = strangers.get(item.peerId) ?? new Set();
        strangers.set(item.peerId, seen.add(state));
      }
      links.set(key, {
        key,
        a: name,
        b: item.peerId,
        code: item.assetCode,
        scale: item.assetScale,
        netAtA: units(item.netBalance),
        netAtB: there === undefined ? null : units(there.item.netBalance),
        staleA: staleOf(here),
        staleB: staleOf(there),
        verdict,
        state,
        settlement: settlementOf(fresh),
        rate: count?.rate ?? null,
        forth: count?.forth ?? true,
      });
    }
  }
  const ours = new Set((known.get(self)?.accounts ?? []).map((one) => one.peerId));
  const nodes: NetNode[] = [...known].map(([key, node]) => ({
    key,
    id: node.nodeId ?? key,
    url: node.url,
    address: node.ilpAddress ?? "",
    kind: node.url === "" ? "self" : "node",
    health: node.error === "" ? (node.status ?? "unknown") : "unknown",
    error: node.error,
    ghost: node.error !== "",
    heardAt: node.error === "" || node.at === null ? null : Date.parse(node.at),
    ours: ours.has(key),
  }));
  for (const [key, states] of strangers) {
    const health = states.has("up") ? "up" : states.has("down") ? "down" : states.has("away") ? "away" : "unknown";
    nodes.push({ key, id: key, url: "", address: "", kind: "peer", health, error: "", ghost: health !== "up", heardAt: null, ours: ours.has(key) });
  }
  const rank = (one: NetNode) => (one.kind === "self" ? 0 : one.kind === "node" ? 1 : one.ours ? 2 : 3);
  nodes.sort((a, b) => rank(a) - rank(b) || inOrder(a.key, b.key));
  const all = [...links.values()].sort((a, b) => inOrder(a.key, b.key));
  const shape = `${nodes.map((one) => one.key).sort().join()}|${all.map((one) => `${one.a}-${one.b}`).join()}`;
  const unheard = network.nodes.filter((one) => one.nodeId === null).map(({ url, error }) => ({ url, error }));
  return { picture: { nodes, links: all, unheard, shape }, memory: { still, counts } };
}

/** At most so many nodes, this one and those with a page first; which does not depend on who answers. */
export function drawn(picture: NetPicture, nodesMax: number): NetPicture {
  if (picture.nodes.length <= nodesMax) return picture;
  const nodes = picture.nodes.slice(0, nodesMax);
  const keys = new Set(nodes.map((one) => one.key));
  return { ...picture, nodes, links: picture.links.filter((one) => keys.has(one.a) && keys.has(one.b)) };
}

/** How urgent a link is: what needs somebody first. */
export function urgency(link: NetLink): number {
  if (link.verdict === "differs") return 0;
  if (link.state === "down") return 1;
  if (link.settlement?.state === "waits") return 2;
  return link.settlement === null ? 4 : 3;
}
