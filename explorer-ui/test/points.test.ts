import { expect, test } from "vitest";
import { extent, joined, pointAt, visible, withLevels } from "../src/model/points";
import { T0, at } from "./samples";

const item = (ms: number, net: string) => ({
  timestamp: at(ms), netBalance: net, debitBalance: "0", creditBalance: "0", pendingDebits: "0", pendingCredits: "0",
}); // prettier-ignore
const point = (ms: number, net: number) => ({ at: T0 + ms, net: BigInt(net) });

test("history and what came since meet without repeats", () => {
  const points = joined([item(0, "1"), item(1000, "2")], [point(500, 9), point(1000, 2), point(1500, 3)]);
  expect(points).toEqual([point(0, 1), point(1000, 2), point(1500, 3)]);
});

test("a balance holds until it changes: both edges have one", () => {
  expect(visible([point(0, 5), point(3000, 7)], T0 + 1000, T0 + 9000, 100)).toEqual([
    point(1000, 5), point(3000, 7), point(9000, 7),
  ]);
  expect(visible([point(3000, 7)], T0 + 1000, T0 + 3000, 100)).toEqual([point(3000, 7)]);
  expect(visible([], T0, T0 + 1, 100)).toEqual([]);
});

test("too many points are thinned, and no peak is lost", () => {
  const many = Array.from({ length: 10_000 }, (_, index) => point(index, index === 5003 ? 999 : index === 7001 ? -999 : index % 3));
  const seen = visible(many, T0, T0 + 10_000, 400);
  expect(seen.length).toBeLessThanOrEqual(402);
  expect(seen.some((one) => one.net === 999n)).toBe(true);
  expect(seen.some((one) => one.net === -999n)).toBe(true);
  expect([...seen].sort((a, b) => a.at - b.at)).toEqual(seen);
});

test("the point under the pointer is the last one before it", () => {
  const points = [point(0, 1), point(10, 2), point(20, 3)];
  expect(pointAt(points, T0 - 1)).toBeNull();
  expect(pointAt(points, T0)?.net).toBe(1n);
  expect(pointAt(points, T0 + 19)?.net).toBe(2n);
  expect(pointAt(points, T0 + 99)?.net).toBe(3n);
});

test("zero is always in sight", () => {
  expect(extent([point(0, 120)])).toEqual([0n, 130n]);
  expect(extent([point(0, -120), point(1, 120)])).toEqual([-140n, 140n]);
  expect(extent([])).toEqual([-1n, 1n]);
});

test("a level is drawn where it leaves the balance to be seen, else it lies beyond", () => {
  const limit = { value: 300n, label: "limit", kind: "limit" as const };
  const far = { value: -100_000n, label: "threshold", kind: "threshold" as const };
  const found = withLevels([0n, 100n], [limit, far]);
  expect(found.drawn).toEqual([limit]);
  expect(found.beyond).toEqual([far]);
  expect(found.low).toBe(0n);
  expect(found.high).toBe(321n);
});
