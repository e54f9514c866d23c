import { expect, test } from "vitest";
import { isFiltered, NO_FILTER, wanted } from "../src/model/filters";
import type { PacketRow } from "../src/model/packets";

const NOW = 1_000_000;
const ROW: PacketRow = {
  id: "00ff12", at: NOW - 10_000, peerId: "alice", nextHop: "bob", destination: "g.bob.Shop", amount: 100n,
  amountOut: 99n, state: "rejected", durationMs: 3, code: "T04", message: "Insufficient liquidity", triggeredBy: "g.hub",
}; // prettier-ignore

test.each([
  [{ peer: "alice" }, true],
  [{ peer: "bob" }, true],
  [{ peer: "carol" }, false],
  [{ state: "rejected" as const }, true],
  [{ state: "fulfilled" as const }, false],
  [{ code: "t" }, true],
  [{ code: "T04" }, true],
  [{ code: "F" }, false],
  [{ span: 10_000 }, true],
  [{ span: 9_999 }, false],
  [{ from: NOW - 10_000, to: NOW - 10_000 }, true],
  [{ to: NOW - 10_001 }, false],
  [{ text: "SHOP" }, true],
  [{ text: "00f" }, true],
  [{ text: "liquid" }, true],
  [{ text: "100" }, true],
  [{ text: "10" }, false],
  [{ peer: "bob", state: "rejected" as const, text: "nothing" }, false],
])("%j lets the packet through: %s", (change, passes) => {
  const filter = { ...NO_FILTER, ...change };
  expect(isFiltered(filter)).toBe(true);
  expect(wanted(filter, NOW)(ROW)).toBe(passes);
});

test("no filter lets everything through", () => {
  expect(isFiltered(NO_FILTER)).toBe(false);
  expect(wanted(NO_FILTER, NOW)({ ...ROW, nextHop: null })).toBe(true);
});
