/** Balances over time, made ready to draw. */

import { units } from "./format";
import type { BalancePoint } from "./store";
import type { HistoryItem } from "./types";

/** Stored history and what came since, oldest first, without repeats. */
export function joined(
  history: readonly HistoryItem[],
  live: readonly BalancePoint[],
): BalancePoint[] {
  const points: BalancePoint[] = history.map((item) => ({
    at: Date.parse(item.timestamp),
    net: units(item.netBalance),
  }));
  const last = points[points.length - 1]?.at ?? Number.NEGATIVE_INFINITY;
  for (const point of live) if (point.at > last) points.push(point);
  return points;
}

/**
 * What is seen between two moments: the balance at `from` where it is known, every change, and the
 * present balance up to `to`. At most `max` points: of each slice the last, the lowest and the
 * highest stay, so no peak is lost.
 */
export function visible(
  points: readonly BalancePoint[],
  from: number,
  to: number,
  max: number,
): BalancePoint[] {
  const found: BalancePoint[] = [];
  let before: BalancePoint | undefined;
  for (const point of points) {
    if (point.at < from) before = point;
    else if (point.at <= to) found.push(point);
  }
  if (before !== undefined) found.unshift({ at: from, net: before.net });
  const last = found[found.length - 1];
  if (last !== undefined && last.at < to) found.push({ at: to, net: last.net });
  return thinned(found, max);
}

function thinned(points: readonly BalancePoint[], max: number): BalancePoint[] {
  if (points.length <= max) return [...points];
  const size = Math.ceil((points.length * 3) / max);
  const kept: BalancePoint[] = [];
  for (let begin = 0; begin < points.length; begin += size) {
    const slice = points.slice(begin, begin + size);
    const lowest = slice.reduce((a, b) => (b.net < a.net ? b : a));
    const highest = slice.reduce((a, b) => (b.net > a.net ? b : a));
    const last = slice[slice.length - 1] as BalancePoint;
    const some = [...new Set([lowest, highest, last])].sort((a, b) => a.at - b.at);
    kept.push(...some);
  }
  return kept;
}

/** The last point that is not after `at`. */
export function pointAt(points: readonly BalancePoint[], at: number): BalancePoint | null {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((points[middle] as BalancePoint).at <= at) low = middle + 1;
    else high = middle;
  }
  return points[low - 1] ?? null;
}

/** From the lowest to the highest, with zero between them and a little air. */
export function extent(points: readonly BalancePoint[]): [bigint, bigint] {
  let low = 0n;
  let high = 0n;
  for (const { net } of points) {
    if (net < low) low = net;
    if (net > high) high = net;
  }
  if (low === 0n && high === 0n) return [-1n, 1n];
  const air = (high - low) / 12n;
  return [low < 0n ? low - air : 0n, high > 0n ? high + air : 0n];
}

/** A level that a balance is compared with: a limit, a threshold. */
export interface LevelLine {
  readonly value: bigint;
  readonly label: string;
  readonly kind: "limit" | "threshold";
}

/** A level is drawn where it does not make the balance itself a flat line. */
const LEVEL_TIMES_MAX = 4n;

/**
 * The extent, widened for the levels that are near enough; the others lie beyond it, above or below.
 */
export function withLevels(
  [low, high]: readonly [bigint, bigint],
  levels: readonly LevelLine[],
): { readonly low: bigint; readonly high: bigint; readonly drawn: readonly LevelLine[]; readonly beyond: readonly LevelLine[] } {
  const size = high > -low ? high : -low;
  const near = (one: LevelLine) => (one.value < 0n ? -one.value : one.value) <= size * LEVEL_TIMES_MAX;
  const drawn = levels.filter(near);
  let [bottom, top] = [low, high];
  for (const { value } of drawn) {
    if (value < bottom) bottom = value;
    if (value > top) top = value;
  }
  const air = (top - bottom) / 14n;
  return {
    low: bottom < low ? bottom - air : low,
    high: top > high ? top + air : high,
    drawn,
    beyond: levels.filter((one) => !near(one)),
  };
}
