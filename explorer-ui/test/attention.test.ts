import { expect, test } from "vitest";
import { accountOf } from "../src/model/accounts";
import { concerns } from "../src/model/attention";
import type { PeerItem } from "../src/model/types";
import { balance, snapshot } from "./samples";

const STATUS = snapshot(1).status;
const peer = (peerId: string, connected: boolean, lastError = "") => ({ peerId, connected, lastError }) as PeerItem;

test("books that differ are never quiet", () => {
  expect(concerns(STATUS, [], [], 100, ["a and b"])).toMatchObject([
    { level: "rose", text: "The books of a and b differ", tab: "dashboard" },
  ]);
});

test("a routing loop is shown until no packet has gone round for a while", () => {
  const loop = { peerId: "c", nextHop: "b", prefix: "", packets: 3, lastAt: new Date(1_000_000).toISOString() };
  const status = { ...STATUS, routingLoops: [loop, { ...loop, prefix: "g.far" }] };
  expect(concerns(status, [], [], 100, [], 1_299_999)).toMatchObject([
    { level: "amber", text: "Routing loop: packets sent to b by the default route come back from c", tab: "packets" },
    { level: "amber", text: "Routing loop: packets sent to b by g.far come back from c" },
  ]);
  expect(concerns(status, [], [], 100, [], 1_300_000)).toEqual([]);
});

test("live rates that are too old are told, missing or unused ones are not", () => {
  expect(concerns({ ...STATUS, rates: { state: "stale" } }, [], [], 100)).toMatchObject([
    { level: "amber", text: "Live exchange rates are too old: packets that need one are refused with T00" },
  ]);
  for (const state of ["off", "fresh"]) expect(concerns({ ...STATUS, rates: { state } }, [], [], 100)).toEqual([]);
});

test("a next hop that refuses for want of credit is shown for a while", () => {
  const short = { peerId: "b", triggeredBy: "g.b", message: "limit", packets: 3, lastAt: new Date(1_000_000).toISOString() };
  const status = { ...STATUS, nextHopsShort: [short] };
  expect(concerns(status, [], [], 100, [], 1_299_999)).toMatchObject([
    { level: "amber", text: 'b refuses packets with T04, "limit": settle with it, or agree on a higher limit', tab: "accounts" },
  ]);
  expect(concerns(status, [], [], 100, [], 1_300_000)).toEqual([]);
});

test("nothing to say when all is well", () => {
  expect(concerns(STATUS, [peer("a", true)], [accountOf(balance(1))], 100)).toEqual([]);
  expect(concerns(STATUS, [], [], null)).toEqual([]);
});

test("the worst comes first, each with the place to look at", () => {
  const found = concerns(
    { ...STATUS, accounting: { state: "spooling", backend: "tigerbeetle", spooled: 7, reason: "no answer in 1 s" } },
    [peer("a", false, "refused")],
    [
      accountOf(balance(1, { availableCredit: "250" })),
      accountOf(balance(1, { peerId: "b", netBalance: "-95", settlementThreshold: "100" })),
    ],
    40,
  );
  expect(found.map((one) => [one.level, one.text])).toEqual([
    ["rose", "a is not connected: refused"],
    ["rose", "b: 95 % of the way to settlement"],
    ["rose", "Only 40 % of the last minute's packets were fulfilled"],
    ["amber", "Accounting spooling: the ledger is away, packets go on (7 transfers wait). no answer in 1 s"],
    ["amber", "alice: 75 % of its credit used"],
  ]);
  expect(found[0]).toMatchObject({ tab: "peers", query: { peer: "a" } });
});

test("payments that wait for an operator, with their sum", () => {
  const waiting = (count: number, sum: string) =>
    accountOf(balance(1, { peerId: "bob", settlementsWaiting: count, settlementsWaitingAmount: sum }));
  expect(concerns(STATUS, [], [waiting(1, "2500000000")], null)).toMatchObject([
    { level: "amber", text: "bob: 1 payment waits for an operator, 2.5 USD", tab: "accounts", query: { q: "bob" } },
  ]);
  expect(concerns(STATUS, [], [waiting(2, "101")], null)[0]?.text).toBe(
    "bob: 2 payments wait for an operator, 0.000000101 USD in all",
  );
  expect(concerns(STATUS, [], [waiting(0, "0")], null)).toEqual([]);
  // However many links are down.
  expect(concerns(STATUS, [peer("a", false)], [waiting(1, "1")], null)[0]?.text).toContain("waits for an operator");
});
