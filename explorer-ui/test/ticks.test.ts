import { expect, test } from "vitest";
import { amountTicks, axisAmounts, axisNumbers, timeTicks } from "../src/model/ticks";

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

test("labels of an axis are exact and none stands twice", () => {
  for (const high of [0.05, 0.3, 0.45, 1.08, 2.5, 9.7, 19.6, 467, 12_345, 2e6]) {
    for (const wanted of [2, 3, 4, 5, 8]) {
      const ticks = axisNumbers(high, wanted);
      expect(new Set(ticks.map((one) => one.label)).size).toBe(ticks.length);
      expect(ticks.length).toBeGreaterThan(1);
      for (const one of ticks) expect(Number(one.label.replaceAll(",", ""))).toBeCloseTo(one.value, 9);
      expect(ticks[ticks.length - 1]?.value).toBeLessThanOrEqual(high * 1.001);
    }
  }
  expect(axisNumbers(0.25, 3).map((one) => one.label)).toEqual(["0", "0.1", "0.2"]);
  expect(axisNumbers(2000, 2).map((one) => one.label)).toEqual(["0", "1,000", "2,000"]);
  expect(axisNumbers(0, 3)).toEqual([{ value: 0, label: "0" }]);
});

test("amounts on an axis are whole smallest units, and told apart", () => {
  for (const high of [1, 3, 999, 1_250_000, 3_070_000_000, 2e15]) {
    for (const scale of [0, 2, 9]) {
      const labels = axisAmounts(high, 4, scale).map((one) => one.label);
      expect(new Set(labels).size).toBe(labels.length);
    }
  }
  expect(axisAmounts(300_000_000, 3, 2).map((one) => one.label)).toEqual(["0", "1M", "2M", "3M"]);
  expect(axisAmounts(1, 4, 9).map((one) => one.label)).toEqual(["0", "0.000000001"]);
});
