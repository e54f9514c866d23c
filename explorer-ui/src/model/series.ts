/** Rates by the second, as the connector tells them (`/api/aggregates`): what is not known is no zero. */

import { units } from "./format";
import type { Aggregate } from "./types";

export interface RateBucket {
  /** Second since the epoch. */
  readonly second: number;
  /** Whether anything is known of it; else it is a gap. */
  readonly known: boolean;
  readonly fulfilled: number;
  readonly rejected: number;
  /** Value by asset, in its smallest unit. */
  readonly value: ReadonlyMap<string, bigint>;
}

const NOTHING: ReadonlyMap<string, bigint> = new Map();

export function bucketOf(item: Aggregate): RateBucket {
  return {
    second: Math.floor(Date.parse(item.timestamp) / 1000),
    known: item.fulfilled !== null,
    fulfilled: item.fulfilled ?? 0,
    rejected: item.rejected ?? 0,
    value: new Map(item.value.map((one) => [`${one.assetCode}|${one.assetScale}`, units(one.amount)])),
  };
}

/** The last seconds; each is told when it is over, and does not change any more. */
export class RateSeries {
  private readonly buckets = new Map<number, RateBucket>();
  /** The last second that is over; 0: none is known. */
  newest = 0;

  constructor(private readonly secondsMax = 900) {}

  put(items: readonly Aggregate[]): void {
    for (const item of items) {
      const bucket = bucketOf(item);
      this.buckets.set(bucket.second, bucket);
      if (bucket.second > this.newest) this.newest = bucket.second;
    }
    for (const old of this.buckets.keys()) if (old <= this.newest - this.secondsMax) this.buckets.delete(old);
  }

  clear(): void {
    this.buckets.clear();
    this.newest = 0;
  }

  /** One item a second from `from` to `to` (seconds, both in), also for seconds without traffic or unknown ones. */
  window(from: number, to: number): RateBucket[] {
    const found: RateBucket[] = [];
    for (let second = from; second <= to; second++) {
      found.push(this.buckets.get(second) ?? { second, known: false, fulfilled: 0, rejected: 0, value: NOTHING });
    }
    return found;
  }

  /** The last `seconds` that are over, oldest first. */
  last(seconds: number): RateBucket[] {
    return this.newest === 0 ? [] : this.window(this.newest - seconds + 1, this.newest);
  }
}

/** One point of a chart. */
export interface RatePoint {
  /** When it begins, ms. */
  readonly at: number;
  /** Per second; null: a gap. */
  readonly fulfilled: number | null;
  readonly rejected: number | null;
  /** Whole units per second; null: a gap. */
  value(asset: string): bigint | null;
}

/** Averages over `step` seconds, on multiples of it, so that they do not move as time does. */
export function points(buckets: readonly RateBucket[], step: number): RatePoint[] {
  const groups = new Map<number, RateBucket[]>();
  for (const one of buckets) {
    const at = one.second - (one.second % step);
    const group = groups.get(at);
    if (group === undefined) groups.set(at, [one]);
    else group.push(one);
  }
  return [...groups].map(([at, group]) => {
    const known = group.filter((one) => one.known);
    const mean = (read: (one: RateBucket) => number) =>
      known.length === 0 ? null : known.reduce((sum, one) => sum + read(one), 0) / known.length;
    return {
      at: at * 1000,
      fulfilled: mean((one) => one.fulfilled),
      rejected: mean((one) => one.rejected),
      value: (asset) =>
        known.length === 0 ? null : known.reduce((sum, one) => sum + (one.value.get(asset) ?? 0n), 0n) / BigInt(known.length),
    };
  });
}

/** A point as the connector has summed it; what is known of it is averaged over the seconds that are known. */
export function pointOf(item: Aggregate): RatePoint {
  const one = bucketOf(item);
  const whole = Math.max(1, item.seconds);
  return {
    at: one.second * 1000,
    fulfilled: one.known ? one.fulfilled / whole : null,
    rejected: one.known ? one.rejected / whole : null,
    value: (asset) => (one.known ? (one.value.get(asset) ?? 0n) / BigInt(whole) : null),
  };
}

export interface CodeLine {
  /** Empty: all codes that have no line of their own. */
  readonly code: string;
  /** Rejects per second; null: a gap. */
  readonly values: readonly (number | null)[];
  /** Of all points together. */
  readonly total: number;
}

/** Rejects per second by code: the `most` most frequent, and the others together. */
export function codeLines(items: readonly Aggregate[], most: number): CodeLine[] {
  const totals = new Map<string, number>();
  for (const item of items) for (const { code, count } of item.codes ?? []) totals.set(code, (totals.get(code) ?? 0) + count);
  const order = [...totals].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
  const own = order.slice(0, most).map(([code]) => code);
  const line = (code: string, counts: (of: string) => boolean): CodeLine => ({
    code,
    values: items.map((item) =>
      item.fulfilled === null ? null : (item.codes ?? []).filter((one) => counts(one.code)).reduce((sum, one) => sum + one.count, 0) / Math.max(1, item.seconds),
    ),
    total: order.filter(([of]) => counts(of)).reduce((sum, [, count]) => sum + count, 0),
  });
  const lines = own.map((code) => line(code, (of) => of === code));
  return order.length > most ? [...lines, line("", (of) => !own.includes(of))] : lines;
}

/** The value below which `part` (0 to 1) of the numbers lie; null without numbers. */
export function percentile(values: readonly number[], part: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? null;
}
