import { expect, test } from "vitest";
import { amountTicks, timeTicks } from "../src/model/ticks";

test("amount ticks are round, inside, and cross zero", () => {
  expect(amountTicks(-90n, 210n, 4)).toEqual([0n, 100n, 200n]);
  expect(amountTicks(-1000n, 1000n, 4)).toEqual([-1000n, -500n, 0n, 500n, 1000n]);
  expect(amountTicks(0n, 0n, 4)).toEqual([0n]);
  expect(amountTicks(3n, 2n, 4)).toEqual([]);
});

test("amount ticks work far beyond what floats can hold", () => {
  const big = 10n ** 30n;
  const ticks = amountTicks(big, big + 10n, 5);
  expect(ticks[0]).toBe(big);
  expect(ticks).toHaveLength(6);
});

test("never more than a few more than asked for", () => {
  for (const high of [1n, 7n, 99n, 12_345n, 999_999_999n]) {
    expect(amountTicks(0n, high, 4).length).toBeLessThanOrEqual(6);
  }
});

test("time ticks are round and have seconds only where they matter", () => {
  const from = new Date(2026, 0, 1, 12, 0, 7).getTime();
  expect(timeTicks(from, from + 60_000, 4).map((tick) => tick.label)).toEqual([
    "12:00:15", "12:00:30", "12:00:45", "12:01:00",
  ]);
  expect(timeTicks(from, from + 3_600_000, 4).map((tick) => tick.label)).toEqual([
    "12:15", "12:30", "12:45", "13:00",
  ]);
});
