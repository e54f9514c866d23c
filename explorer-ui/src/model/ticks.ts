/** Where the lines of a chart stand: round amounts and round times. */

import { clock, exact } from "./format";

/** Round values from `low` to `high`, about `wanted` of them, always with a step of 1, 2 or 5. */
export function amountTicks(low: bigint, high: bigint, wanted: number): bigint[] {
  if (high < low) return [];
  const parts = BigInt(Math.max(1, wanted));
  const rough = (high - low + parts - 1n) / parts;
  let step = 1n;
  while (step * 5n < rough) step *= 10n;
  for (const factor of [1n, 2n, 5n, 10n]) {
    if (step * factor >= rough) {
      step *= factor;
      break;
    }
  }
  // Division of bigints cuts towards zero, so it rounds up below zero and down above it.
  let at = (low / step) * step;
  if (at < low) at += step;
  const ticks: bigint[] = [];
  for (; at <= high; at += step) ticks.push(at);
  return ticks;
}

export interface Tick {
  readonly value: number;
  readonly label: string;
}

/** Round numbers from zero to `high`, with as many decimals as their step needs, all the same. */
export function axisNumbers(high: number, wanted: number): Tick[] {
  if (!(high > 0)) return [{ value: 0, label: "0" }];
  const rough = high / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  // The next round step, or the one below where that would be beyond the highest value.
  const wide = [1, 2, 5, 10].findIndex((one) => one * power >= rough);
  const step = ([0.5, 1, 2, 5, 10].slice(0, wide + 2).reverse().find((one) => one * power <= high) ?? 0.5) * power;
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks: Tick[] = [];
  for (let index = 0; index * step <= high * (1 + 1e-9); index++) {
    const value = index * step;
    ticks.push({ value, label: index === 0 ? "0" : value.toFixed(decimals).replace(/\B(?=(\d{3})+(?!\d)(?=\.|$))/g, ",") });
  }
  return ticks;
}

const POWERS: readonly (readonly [number, string])[] = [[12, "T"], [9, "B"], [6, "M"], [3, "K"]]; // prettier-ignore

/** Round amounts from zero to `high`, in whole smallest units; exact, and none twice. */
export function axisAmounts(high: number, wanted: number, scale: number): Tick[] {
  const highest = BigInt(Math.ceil(Math.max(0, high)));
  if (highest === 0n) return [{ value: 0, label: "0" }];
  const ticks = amountTicks(0n, highest, wanted);
  const step = ticks[1] ?? highest;
  const [power, suffix] = POWERS.find(([one]) => step >= 10n ** BigInt(scale + one - 1)) ?? [0, ""];
  return ticks.map((value) => ({ value: Number(value), label: value === 0n ? "0" : exact(value, scale + power) + suffix }));
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND,
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR,
  DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY,
]; // prettier-ignore

export interface TimeTick {
  readonly at: number;
  readonly label: string;
}

/** Round local times between two moments (ms), at most about `wanted` of them. */
export function timeTicks(from: number, to: number, wanted: number): TimeTick[] {
  const rough = (to - from) / Math.max(1, wanted);
  const step = STEPS.find((one) => one >= rough) ?? STEPS[STEPS.length - 1] ?? DAY;
  // Round in local time, or days would begin at midnight of another place.
  const shift = new Date(from).getTimezoneOffset() * MINUTE;
  const ticks: TimeTick[] = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step) {
    ticks.push({ at, label: label(at, step) });
  }
  return ticks;
}

function label(at: number, step: number): string {
  if (step >= DAY) {
    const t = new Date(at);
    return `${t.getMonth() + 1}/${t.getDate()}`;
  }
  const text = clock(at);
  return step < MINUTE ? text : text.slice(0, 5);
}
