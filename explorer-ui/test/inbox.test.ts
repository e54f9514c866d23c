import { expect, test } from "vitest";
import { accountOf } from "../src/model/accounts";
import { inbox, inOrder, type Situation } from "../src/model/inbox";
import type { PeerItem, SettlementItem } from "../src/model/types";
import { balance, snapshot } from "./samples";

const STATUS = snapshot(1).status;
const NONE: Situation = { status: STATUS, peers: [], accounts: [], settlements: [], success: 100, differing: [], nowMs: 1_000_000 };
const peer = (peerId: string, change: Partial<PeerItem> = {}) => ({ peerId, connected: false, lastError: "", dials: false, ...change }) as PeerItem;
const found = (change: Partial<Situation>) => inbox({ ...NONE, ...change });
const texts = (change: Partial<Situation>) => found(change).map((one) => one.text);
const settlement = (change: Partial<SettlementItem> = {}): SettlementItem => ({
  settlementId: "00aa", peerId: "bob", assetCode: "USD", assetScale: 2, direction: "outgoing", amount: "1250", phase: "booked",
  payer: "operator", attempts: 0, error: "", nextAttemptMs: null, createdMs: 0, changedMs: 0, ...change,
}); // prettier-ignore

test("nothing needs anybody when all is well", () => {
  expect(found({ peers: [peer("a", { connected: true })], accounts: [accountOf(balance(1))] })).toEqual([]);
  expect(found({ success: null })).toEqual([]);
});

test("a settlement that an operator has to pay says so, with amount and what to do", () => {
  const [row] = found({ settlements: [settlement()] });
  expect(row).toMatchObject({ level: "amber", text: "Pay bob 12.5 USD, then confirm" });
  expect(row?.actions.map((one) => [one.label, one.method, one.path])).toEqual([
    ["Confirm paid", "POST", "admin/accounts/bob/settlements/00aa/confirm"],
    ["Cancel", "POST", "admin/accounts/bob/settlements/00aa/cancel"],
  ]);
});

test("one that an engine is paying is nobody's work, until it fails", () => {
  expect(found({ settlements: [settlement({ payer: "engine" })] })).toEqual([]);
  const [row] = found({ settlements: [settlement({ payer: "engine", attempts: 3, error: "refused", nextAttemptMs: 1_012_000 })] });
  expect(row).toMatchObject({ level: "rose", text: "Paying bob 12.5 USD has failed 3 times", detail: "refused; next try in 12 s" });
  expect(row?.actions.map((one) => [one.label, one.body])).toEqual([["Retry", undefined], ["Cancel", { force: true }]]);
});

test("a payment that waits is put as a question, once, before the list has come and after", () => {
  const account = accountOf(balance(1, { peerId: "bob", settlementsWaiting: 2, settlementsWaitingAmount: "101" }));
  expect(texts({ accounts: [account] })).toEqual(["2 payments of bob wait for an operator, 0.000000101 USD"]);
  const rows = found({ accounts: [account], settlements: [settlement({ phase: "waiting", direction: "incoming" })] });
  expect(rows.map((one) => one.text)).toEqual(["Was 12.5 USD received from bob?"]);
  expect(rows[0]?.actions.map((one) => one.label)).toEqual(["Accept", "Decline"]);
});

test("many decisions of a kind are one row", () => {
  const many = (count: number) =>
    Array.from({ length: count }, (_, index) => settlement({ settlementId: `${index}`, phase: "waiting", peerId: `p${index % 2}` }));
  expect(found({ settlements: many(4) })).toHaveLength(4);
  expect(found({ settlements: many(37) }).map((one) => [one.text, one.detail, one.items.length])).toEqual([
    ["37 payments wait for an operator", "p0, p1", 37],
  ]);
});

test("43 peers that are down are one row, in natural order", () => {
  const peers = Array.from({ length: 43 }, (_, index) => peer(`member-${43 - index}`));
  const rows = found({ peers });
  expect(rows.map((one) => [one.text, one.detail])).toEqual([["43 peers are not connected", "member-1, member-2, member-3 and 40 more"]]);
  expect(rows[0]?.items.slice(8, 11).map((one) => one.text)).toEqual([
    "member-9 is not connected", "member-10 is not connected", "member-11 is not connected",
  ]); // prettier-ignore
});

test("a single one has its row; what is expected or disabled has none", () => {
  const rows = found({ peers: [peer("a", { lastError: "refused", dials: true }), peer("b", { offlineExpected: true }), peer("c", { enabled: false })] });
  expect(rows.map((one) => [one.text, one.detail])).toEqual([["a is not connected", "refused"]]);
  expect(rows[0]?.actions.map((one) => one.label)).toEqual(["Reconnect", "Expected offline"]);
  expect(found({ peers: [peer("a")] })[0]?.actions.map((one) => one.label)).toEqual(["Expected offline"]);
});

test("decisions first, then the worst, then what comes near a limit", () => {
  const rows = found({
    status: { ...STATUS, accounting: { state: "spooling", backend: "tigerbeetle", spooled: 7, reason: "no answer in 1 s" } },
    peers: [peer("a", { lastError: "refused" })],
    accounts: [
      accountOf(balance(1, { availableCredit: "250" })),
      accountOf(balance(1, { peerId: "b", netBalance: "-95", settlementThreshold: "100" })),
    ],
    settlements: [settlement()],
    success: 40,
  });
  expect(rows.map((one) => [one.level, one.text])).toEqual([
    ["amber", "Pay bob 12.5 USD, then confirm"],
    ["rose", "Only 40 % of the last minute's packets were fulfilled"],
    ["rose", "a is not connected"],
    ["amber", "Accounting spooling: the ledger is away, packets go on (7 transfers wait). no answer in 1 s"],
    ["rose", "What we owe b is at 95 % of its settlement threshold"],
    ["amber", "alice has used 75 % of its credit"],
  ]);
});

test("limits carry what can be done, with the amount filled in", () => {
  const [credit] = found({ accounts: [accountOf(balance(1, { availableCredit: "50", creditLimit: "1000000000" }))] });
  expect(credit?.actions[0]).toMatchObject({ method: "PUT", path: "admin/peers/alice/limits", fields: [{ name: "creditLimit", value: "2" }] });
  const near = accountOf(balance(1, { peerId: "b", netBalance: "-95", settlementThreshold: "100" }));
  expect(found({ accounts: [near] })[0]?.actions[0]).toMatchObject({ path: "admin/accounts/b/settlements", body: { direction: "outgoing", execute: true } });
  // While one is under way it is not asked for again.
  expect(texts({ accounts: [near], settlements: [settlement({ peerId: "b", payer: "engine" })] })).toEqual([]);
});

test("books that differ, old rates, loops and refusals are told", () => {
  expect(texts({ differing: ["a and b"] })).toEqual(["The books of a and b differ"]);
  expect(texts({ status: { ...STATUS, rates: { state: "stale" } } })[0]).toContain("too old");
  for (const state of ["off", "fresh"]) expect(found({ status: { ...STATUS, rates: { state } } })).toEqual([]);
  const loop = { peerId: "c", nextHop: "b", prefix: "", packets: 3, lastAt: new Date(1_000_000).toISOString() };
  const looping = { ...STATUS, routingLoops: [loop] };
  expect(texts({ status: looping, nowMs: 1_299_999 })).toEqual(["Routing loop: packets sent to b by the default route come back from c"]);
  expect(texts({ status: looping, nowMs: 1_300_000 })).toEqual([]);
  expect(texts({ status: { ...STATUS, routingLoops: [loop, { ...loop, prefix: "g.far" }] } })).toEqual(["2 routing loops"]);
  const short = { peerId: "b", triggeredBy: "g.b", message: "limit", packets: 3, lastAt: new Date(1_000_000).toISOString() };
  expect(texts({ status: { ...STATUS, nextHopsShort: [short] } })[0]).toContain('b refuses packets with T04, "limit"');
});

test("names are in the order in which people count", () => {
  expect(["member-10", "member-2", "b", "a"].sort(inOrder)).toEqual(["a", "b", "member-2", "member-10"]);
});
