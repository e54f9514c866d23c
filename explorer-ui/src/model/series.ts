/** Numbers a second, for the last minutes: from events, made whole by what was only counted. */

export interface RateBucket {
  /** Second since the epoch. */
  readonly second: number;
  fulfilled: number;
  rejected: number;
  /** Value by asset, in its smallest unit. */
  readonly value: Map<string, bigint>;
}

export class RateSeries {
  private readonly buckets = new Map<number, RateBucket>();
  private newest = 0;

  constructor(private readonly secondsMax = 900) {}

  private at(second: number): RateBucket {
    let bucket = this.buckets.get(second);
    if (bucket === undefined) {
      bucket = { second, fulfilled: 0, rejected: 0, value: new Map() };
      this.buckets.set(second, bucket);
      if (second > this.newest) {
        this.newest = second;
        for (const old of this.buckets.keys()) {
          if (old <= second - this.secondsMax) this.buckets.delete(old);
        }
      }
    }
    return bucket;
  }

  packet(atMs: number, state: "fulfilled" | "rejected", count = 1): void {
    const second = Math.floor(atMs / 1000);
    if (second <= this.newest - this.secondsMax) return;
    this.at(second)[state] += count;
  }

  /** Packets known only by their number, spread over the time in which they came. */
  counted(fromMs: number, toMs: number, fulfilled: number, rejected: number): void {
    const first = Math.floor(fromMs / 1000);
    const seconds = Math.max(1, Math.floor(toMs / 1000) - first);
    for (let index = 0; index < seconds; index++) {
      const second = first + index;
      if (second <= this.newest - this.secondsMax) continue;
      const bucket = this.at(second);
      bucket.fulfilled += Math.max(0, fulfilled) / seconds;
      bucket.rejected += Math.max(0, rejected) / seconds;
    }
  }

  value(atMs: number, asset: string, units: bigint): void {
    const second = Math.floor(atMs / 1000);
    if (units <= 0n || second <= this.newest - this.secondsMax) return;
    const value = this.at(second).value;
    value.set(asset, (value.get(asset) ?? 0n) + units);
  }

  clear(): void {
    this.buckets.clear();
    this.newest = 0;
  }

  /** One item a second from `from` to `to` (seconds, both in), also for seconds without traffic. */
  window(from: number, to: number): RateBucket[] {
    const found: RateBucket[] = [];
    for (let second = from; second <= to; second++) {
      found.push(this.buckets.get(second) ?? { second, fulfilled: 0, rejected: 0, value: new Map() });
    }
    return found;
  }
}

/** The value below which `part` (0 to 1) of the numbers lie; null without numbers. */
export function percentile(values: readonly number[], part: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? null;
}

/** What one account says of the past: how much it was debited and credited in which second. */
export interface Moved {
  readonly second: number;
  readonly debit: bigint;
  readonly credit: bigint;
}

/** Differences between points of a balance history. */
export function movedIn(points: readonly { at: number; debit: bigint; credit: bigint }[]): Moved[] {
  const found: Moved[] = [];
  for (const [index, point] of points.entries()) {
    const before = points[index - 1];
    if (before === undefined) continue;
    found.push({
      second: Math.floor(point.at / 1000),
      debit: point.debit > before.debit ? point.debit - before.debit : 0n,
      credit: point.credit > before.credit ? point.credit - before.credit : 0n,
    });
  }
  return found;
}
