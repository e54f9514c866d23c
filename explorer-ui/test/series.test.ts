import { expect, test } from "vitest";
import { codeLines, pointOf, points, RateSeries } from "../src/model/series";
import type { Aggregate } from "../src/model/types";
import { T0 } from "./samples";

const SECOND = T0 / 1000;
const item = (second: number, fulfilled: number | null, change: Partial<Aggregate> = {}): Aggregate => ({
  timestamp: new Date(T0 + second * 1000).toISOString(), seconds: fulfilled === null ? 0 : 1, fulfilled, rejected: fulfilled === null ? null : 0, value: [], ...change,
}); // prettier-ignore

test("what is not known is a gap, not a zero", () => {
  const series = new RateSeries();
  series.put([item(0, 4), item(1, null), item(3, 0)]);
  expect(series.last(4).map((one) => [one.known, one.fulfilled])).toEqual([[true, 4], [false, 0], [false, 0], [true, 0]]);
  expect(points(series.last(4), 2).map((one) => [one.at - T0, one.fulfilled])).toEqual([[0, 4], [2000, 0]]);
  expect(points(series.window(SECOND + 4, SECOND + 5), 2)[0]).toMatchObject({ fulfilled: null, rejected: null });
});

test("points lie on multiples of their width, wherever the window begins", () => {
  const series = new RateSeries();
  series.put(Array.from({ length: 20 }, (_, index) => item(index, index)));
  const one = points(series.window(SECOND, SECOND + 9), 5);
  const two = points(series.window(SECOND + 5, SECOND + 14), 5);
  expect(one[1]?.at).toBe(two[0]?.at);
  expect(one[1]?.fulfilled).toBe(two[0]?.fulfilled);
});

test("value is averaged in whole units, by asset", () => {
  const series = new RateSeries();
  const value = (amount: string) => ({ value: [{ assetCode: "USD", assetScale: 9, amount }] });
  series.put([item(0, 1, value("100")), item(1, 1, value("300"))]);
  const [point] = points(series.last(2), 2);
  expect(point?.value("USD|9")).toBe(200n);
  expect(point?.value("EUR|2")).toBe(0n);
});

test("it is bounded", () => {
  const series = new RateSeries(10);
  series.put(Array.from({ length: 50 }, (_, index) => item(index, 1)));
  expect(series.window(SECOND, SECOND + 49).filter((one) => one.known)).toHaveLength(10);
});

test("a point of the connector is averaged over the seconds that are known of it", () => {
  const point = pointOf(item(0, 30, { seconds: 20, value: [{ assetCode: "USD", assetScale: 2, amount: "50" }] }));
  expect(point).toMatchObject({ at: T0, fulfilled: 1.5, rejected: 0 });
  expect(point.value("USD|2")).toBe(2n);
  expect(pointOf(item(0, null)).fulfilled).toBeNull();
});

test("the most frequent codes have lines of their own, the others one together, gaps stay gaps", () => {
  const codes = (all: Record<string, number>) => ({ codes: Object.entries(all).map(([code, count]) => ({ code, count })) });
  const items = [item(0, 0, codes({ F02: 1, T04: 9 })), item(1, null), item(2, 0, { seconds: 2, ...codes({ F02: 4, R00: 2, F08: 1 }) })];
  expect(codeLines(items, 2)).toEqual([
    { code: "T04", values: [9, null, 0], total: 9 },
    { code: "F02", values: [1, null, 2], total: 5 },
    { code: "", values: [0, null, 1.5], total: 3 },
  ]);
  expect(codeLines([item(0, 1)], 5)).toEqual([]);
});
