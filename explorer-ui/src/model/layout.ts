/**
 * Where the nodes of the network stand. It depends on who there is and on who is linked to whom, never on who
 * answers: a node that dies stays where it was. Places are parts of the width and height, 0 to 1.
 */

import { inOrder } from "./inbox";

export interface Place {
  readonly x: number;
  readonly y: number;
  /** Whether its name stands above it: away from the middle, where the links are. */
  readonly above: boolean;
}

export interface Layout {
  readonly kind: "line" | "ring";
  readonly order: readonly string[];
  readonly places: ReadonlyMap<string, Place>;
}

type Pair = readonly [string, string];

function neighbours(keys: readonly string[], pairs: readonly Pair[]): Map<string, Set<string>> {
  const beside = new Map<string, Set<string>>(keys.map((key) => [key, new Set()]));
  for (const [a, b] of pairs) {
    beside.get(a)?.add(b);
    beside.get(b)?.add(a);
  }
  return beside;
}

/** From one end to the other where the links form a line; null where they do not. */
export function lineOf(keys: readonly string[], pairs: readonly Pair[]): string[] | null {
  const beside = neighbours(keys, pairs);
  if (keys.length < 2) return [...keys];
  const ends = [...keys].sort(inOrder).filter((key) => beside.get(key)?.size === 1);
  const start = ends[0];
  if (ends.length !== 2 || start === undefined) return null;
  const line = [start];
  for (let at = start, from = ""; line.length <= keys.length; ) {
    const next = [...(beside.get(at) ?? [])].find((one) => one !== from);
    if (next === undefined || (beside.get(at)?.size ?? 0) > 2) break;
    line.push(next);
    from = at;
    at = next;
  }
  return line.length === keys.length ? line : null;
}

/** An order around a ring with short links: neighbours stand beside each other where they can. */
export function ringOf(keys: readonly string[], pairs: readonly Pair[], first: string): string[] {
  const order = [...keys].sort((a, b) => (a === first ? -1 : b === first ? 1 : inOrder(a, b)));
  const count = order.length;
  const at = new Map(order.map((key, index) => [key, index]));
  const inside = pairs.filter(([a, b]) => at.has(a) && at.has(b));
  const of = new Map<string, number[]>(order.map((key) => [key, []]));
  for (const [index, [a, b]] of inside.entries()) {
    of.get(a)?.push(index);
    of.get(b)?.push(index);
  }
  const length = (index: number) => {
    const [a, b] = inside[index] as Pair;
    const apart = Math.abs((at.get(a) ?? 0) - (at.get(b) ?? 0));
    return Math.min(apart, count - apart);
  };
  const cost = (x: string, y: string) => [...new Set([...(of.get(x) ?? []), ...(of.get(y) ?? [])])].reduce((sum, one) => sum + length(one), 0);
  const swap = (i: number, j: number) => {
    const [x, y] = [order[i] as string, order[j] as string];
    [order[i], order[j]] = [y, x];
    at.set(x, j).set(y, i);
  };
  // Bounded: each round makes it shorter, and a few are enough.
  for (let round = 0, better = true; better && round < 8; round++) {
    better = false;
    for (let i = 1; i < count; i++) {
      for (let j = i + 1; j < count; j++) {
        const [x, y] = [order[i] as string, order[j] as string];
        const before = cost(x, y);
        swap(i, j);
        if (cost(x, y) < before) better = true;
        else swap(i, j);
      }
    }
  }
  return order;
}

/** A line, or a ring of those with several links, with the others around whom they are linked to. */
export function layoutOf(keys: readonly string[], pairs: readonly Pair[], self: string): Layout {
  const line = lineOf(keys, pairs);
  if (line !== null) {
    const part = (index: number) => (index + 0.5) / Math.max(1, line.length);
    return { kind: "line", order: line, places: new Map(line.map((key, index) => [key, { x: part(index), y: 0.5, above: false }])) };
  }
  const beside = neighbours(keys, pairs);
  const degree = (key: string) => beside.get(key)?.size ?? 0;
  // Of two that have only each other, the first stands for both.
  const core = keys.filter((key) => degree(key) !== 1 || [...(beside.get(key) ?? [])].every((one) => degree(one) === 1 && inOrder(key, one) < 0));
  const ring = ringOf(core, pairs, core.includes(self) ? self : ([...core].sort(inOrder)[0] ?? ""));
  const leaves = new Map(ring.map((key) => [key, [...(beside.get(key) ?? [])].filter((one) => !ring.includes(one)).sort(inOrder)]));
  const outside = keys.length > ring.length;
  const places = new Map<string, Place>();
  const put = (key: string, angle: number, reach: number) => {
    const y = Math.sin(angle) * reach;
    places.set(key, { x: 0.5 + (Math.cos(angle) * reach) / 2, y: 0.5 + y / 2, above: y < -0.01 });
  };
  const weight = (key: string) => Math.max(1, leaves.get(key)?.length ?? 0);
  const all = ring.reduce((sum, key) => sum + weight(key), 0);
  // The first of them stands at the top, in the middle of its part of the circle.
  let from = -Math.PI / 2 - (Math.PI * weight(ring[0] ?? "")) / all;
  for (const key of ring) {
    const width = (2 * Math.PI * weight(key)) / all;
    put(key, from + width / 2, ring.length === 1 ? 0 : outside ? 0.5 : 1);
    const around = leaves.get(key) ?? [];
    // Many around one stand in several rows, or their names would lie on each other.
    const rows = ring.length > 1 || around.length <= 14 ? 1 : around.length <= 28 ? 2 : 3;
    for (const [index, leaf] of around.entries()) put(leaf, from + (width * (index + 0.5)) / weight(key), 1 - (index % rows) * 0.24);
    from += width;
  }
  return { kind: "ring", order: [...places.keys()], places };
}
