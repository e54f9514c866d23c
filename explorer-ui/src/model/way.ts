/**
 * One packet over all nodes: their answers put in order, and on one scale of time.
 *
 * Each node tells times by its own clock, so clocks are not compared: a next hop's time lies within the time for which
 * the hop before it waited, and what is left of that is the way there and back. How it is divided between there and back
 * nobody knows: it is drawn in the middle.
 */

import { peerName } from "./network";
import type { Hop, HopsEverywhere, HopsOfNode } from "./types";

/** A node on the way that has the packet. */
export interface Stop {
  readonly kind: "stop";
  readonly key: string;
  readonly name: string;
  /** Of its page; empty: this node. */
  readonly url: string;
  readonly hop: Hop;
  /** False: taken for the next hop by amount and destination, since its name is not that of the peer. */
  readonly named: boolean;
  /** After the first stop received the packet, ms; null: not known. */
  readonly begin: number | null;
  /** In the node itself, ms: all but the time for which it waited for its next hop. */
  readonly inside: number | null;
  /** Waiting for the next hop, ms; 0: there is none. */
  readonly waited: number | null;
  /** From the stop before it and back, ms, with all that lies between. */
  readonly link: number | null;
  /** How far its clock is ahead of that of the first stop, and by how much that may be wrong, ms. */
  readonly skew: { readonly ms: number; readonly error: number } | null;
}

/** A node on the way of which nothing is known, and why. */
export interface Missing {
  readonly kind: "missing";
  readonly key: string;
  readonly name: string;
  readonly why: string;
}

export type Leg = Stop | Missing;

export interface Way {
  readonly legs: readonly Leg[];
  /** From the first stop's receipt to its answer, ms; null: not known (yet). */
  readonly total: number | null;
  /** What the stops took themselves, and what lies between them, ms. */
  readonly inside: number;
  readonly between: number | null;
  /** Other packets with the same condition, at any node. */
  readonly others: number;
  /** Whether a node has more of them than it tells. */
  readonly more: boolean;
  /** Nodes that could not be asked and are not on the way as far as it is known. */
  readonly silent: readonly { readonly name: string; readonly error: string }[];
}

interface Place {
  readonly node: HopsOfNode;
  readonly name: string;
  readonly hop: Hop;
}

/** So many nodes a packet may pass. */
const LEGS_MAX = 40;
/** Times have milliseconds. */
const STEP_MS = 1;

/** The way of one packet; `packetId` is that of the first node of the answer, empty: its last one. */
export function wayOf(found: HopsEverywhere, packetId = ""): Way | null {
  const places = found.nodes.flatMap((node) =>
    node.nodeId === null ? [] : node.items.map((hop) => ({ node, name: peerName(node.nodeId ?? ""), hop })),
  );
  const own = places.filter((one) => one.node.url === "");
  const from = own.find((one) => one.hop.packetId === packetId) ?? own.at(-1) ?? places[0];
  if (from === undefined) return null;
  const used = new Set<Place>([from]);
  const finder = new Finder(found.nodes, places, used);
  const legs: (Place & { readonly named: boolean } | Missing)[] = [{ ...from, named: true }];
  finder.back(from, legs);
  finder.on(from, legs);
  return timed(legs, places.length - used.size, found.nodes, finder.silentUsed);
}

class Finder {
  readonly silentUsed = new Set<string>();

  constructor(
    private readonly nodes: readonly HopsOfNode[],
    private readonly places: readonly Place[],
    private readonly used: Set<Place>,
  ) {}

  /** What came before, to the front of `legs`. */
  back(from: Place, legs: (Place & { readonly named: boolean } | Missing)[]): void {
    let here: Place | null = from;
    for (let count = 0; here !== null && here.hop.peerId !== "" && count < LEGS_MAX; count += 1) {
      const at: Place = here;
      const fits = (one: Place) =>
        [one.hop.nextHop, ...one.hop.ways].includes(at.name) && (one.hop.amountOut === null || one.hop.amountOut === at.hop.amount);
      const loose = (one: Place) =>
        one.hop.amountOut === at.hop.amount && one.hop.nextHop !== null && one.hop.nextHop !== "" && !this.isNode(one.hop.nextHop);
      const next = this.nearest(at.hop.peerId, at, fits, loose, -1);
      if (next === null) {
        legs.unshift(this.missing(at.hop.peerId));
        return;
      }
      legs.unshift(next);
      here = next;
    }
  }

  /** What follows, to the end of `legs`. */
  on(from: Place, legs: (Place & { readonly named: boolean } | Missing)[]): void {
    let here: Place = from;
    for (let count = 0; count < LEGS_MAX; count += 1) {
      const at = here;
      const hop = at.hop.nextHop;
      if (hop === null || hop === "") return;
      const fits = (one: Place) => one.hop.peerId === at.name && (at.hop.amountOut === null || at.hop.amountOut === one.hop.amount);
      const loose = (one: Place) => at.hop.amountOut === one.hop.amount && one.hop.peerId !== "" && !this.isNode(one.hop.peerId);
      let next = this.nearest(hop, at, fits, loose, 1);
      if (next === null) {
        legs.push(this.missing(hop));
        // Beyond it there may be one again that knows the packet.
        next = this.nearest("", at, (one) => one.hop.peerId === hop, () => false, 1);
        if (next === null) return;
      }
      legs.push(next);
      here = next;
    }
  }

  private isNode(name: string): boolean {
    return this.nodes.some((node) => node.nodeId !== null && peerName(node.nodeId) === name);
  }

  /** Of what fits at the node of that name (empty: at any), the nearest in time; else of what fits loosely anywhere. */
  private nearest(
    name: string,
    at: Place,
    fits: (one: Place) => boolean,
    loose: (one: Place) => boolean,
    way: 1 | -1,
  ): (Place & { readonly named: boolean }) | null {
    const open = this.places.filter((one) => !this.used.has(one) && one.node !== at.node && one.hop.destination === at.hop.destination);
    const named = open.filter((one) => (name === "" || one.name === name) && fits(one));
    const found = closest(named, at, way) ?? (this.isNode(name) || name === "" ? null : closest(open.filter(loose), at, way));
    if (found === null) return null;
    this.used.add(found);
    return { ...found, named: named.includes(found) };
  }

  private missing(name: string): Missing {
    const node = this.nodes.find((one) => one.nodeId !== null && peerName(one.nodeId) === name);
    if (node !== undefined && node.error !== "") this.silentUsed.add(node.url);
    const unheard = this.nodes.some((one) => one.nodeId === null);
    const why =
      node !== undefined
        ? node.error === ""
          ? "It has answered, and keeps nothing of this packet: it was only counted there, or its time is over."
          : `It could not be asked: ${node.error}.`
        : unheard
          ? "It could not be asked: it is not in EXPLORER_NODES, or is one of those that have not answered."
          : "It was not asked: it is not in EXPLORER_NODES.";
    return { kind: "missing", key: `missing ${name}`, name, why };
  }
}

/** When a place received the packet, by the clock of the node that asked; null: not known. */
function receivedAt(one: Place): number | null {
  const at = Date.parse(one.hop.receivedAt ?? "");
  return Number.isNaN(at) ? null : at - (one.node.clockOffsetMs ?? 0);
}

function closest(open: readonly Place[], at: Place, way: 1 | -1): Place | null {
  const here = receivedAt(at);
  const distance = (one: Place) => {
    const there = receivedAt(one);
    if (here === null || there === null) return Number.MAX_VALUE;
    const forwarded = (way === 1 ? at : one).hop.forwardedMs ?? 0;
    return Math.abs((there - here) * way - forwarded);
  };
  return open.reduce<Place | null>((best, one) => (best === null || distance(one) < distance(best) ? one : best), null);
}

function timed(
  legs: readonly (Place & { readonly named: boolean } | Missing)[],
  others: number,
  nodes: readonly HopsOfNode[],
  silentUsed: ReadonlySet<string>,
): Way {
  const done: Leg[] = [];
  let before: Stop | null = null;
  let first: Stop | null = null;
  for (const one of legs) {
    if ("kind" in one) {
      done.push(one);
      continue;
    }
    const stop: Stop = stopOf(one, before, first);
    first ??= stop;
    before = stop;
    done.push(stop);
  }
  const stops = done.filter((one): one is Stop => one.kind === "stop");
  const links = stops.slice(1).map((one) => one.link);
  return {
    legs: done,
    total: stops[0]?.hop.durationMs ?? null,
    inside: stops.reduce((sum, one) => sum + (one.inside ?? 0), 0),
    between: links.length === 0 || links.includes(null) ? null : links.reduce<number>((sum, one) => sum + (one ?? 0), 0),
    others,
    more: nodes.some((one) => one.more),
    silent: nodes
      .filter((one) => one.error !== "" && !silentUsed.has(one.url))
      .map((one) => ({ name: one.nodeId ?? one.url, error: one.error })),
  };
}

function stopOf(place: Place & { readonly named: boolean }, before: Stop | null, first: Stop | null): Stop {
  const { hop, node, name } = place;
  const forwarded = hop.forwardedMs;
  const end = hop.durationMs;
  const waited = forwarded === null ? (end === null ? null : 0) : hop.answeredMs === null ? null : Math.max(0, hop.answeredMs - forwarded);
  const sent = before?.hop.forwardedMs ?? null;
  const beyond = before === null || before.waited === null || end === null ? null : before.waited - end;
  const link = beyond === null ? null : Math.max(0, beyond);
  const begin = before === null ? 0 : before.begin === null || sent === null ? null : before.begin + sent + (link ?? 0) / 2;
  const here = Date.parse(hop.receivedAt ?? "");
  const there = Date.parse(first?.hop.receivedAt ?? "");
  const skew =
    first === null || begin === null || link === null || Number.isNaN(here - there)
      ? null
      : { ms: here - there - begin, error: link / 2 + 2 * STEP_MS };
  return {
    kind: "stop",
    key: `${node.url} ${hop.packetId}`,
    name: node.nodeId ?? name,
    url: node.url,
    hop,
    named: place.named,
    begin,
    inside: end === null || waited === null ? null : Math.max(0, end - waited),
    waited,
    link,
    skew,
  };
}

/** What is to be said of a clock: nothing where it may be right. */
export function skewInWords(stop: Stop, duration: (ms: number) => string): string {
  if (stop.skew === null) return "";
  const { ms, error } = stop.skew;
  if (Math.abs(ms) <= error) return "";
  // Long times are told in whole parts: what lacks a little to an hour is one.
  const size = Math.abs(ms) + (Math.abs(ms) > 60_000 ? Math.max(error, 500) : 0);
  return `its clock is ${duration(size)} ${ms > 0 ? "ahead" : "behind"} (\u00b1 ${duration(error)})`;
}
