import { beforeEach, describe, expect, test } from "vitest";
import { Gatherer, Store } from "../src/model/store";
import type { WireEvent } from "../src/model/types";
import { T0, at, balance, forwarded, fulfilled, head, received, rejected, snapshot, status } from "./samples";

let store: Store;
beforeEach(() => {
  store = new Store();
  store.snapshot(snapshot(1), T0);
});

const KEY = "alice|USD|9";

describe("accounts", () => {
  test("a balance event changes its account only", () => {
    store.apply([balance(2, { peerId: "bob" })], T0);
    const bob = store.account("bob|USD|9");
    const before = bob?.value;
    store.apply([balance(3, { netBalance: "-250", debitBalance: "50", creditBalance: "300" })], T0);
    expect(store.account(KEY)?.value.net).toBe(-250n);
    expect(bob?.value).toBe(before);
    expect(store.accountKeys.value).toEqual([KEY, "bob|USD|9"]);
  });

  test("each change is a point of the live history, what does not change is none", () => {
    for (const [seq, net] of ["10", "10", "30"].entries()) {
      store.apply([balance(seq + 2, { netBalance: net }, seq * 100)], T0);
    }
    expect(store.livePoints(KEY).map((point) => [point.at - T0, point.net])).toEqual([
      [0, 0n], [0, 10n], [200, 30n],
    ]);
  });

  test("what waits for an operator outlives balance events, and is asked for when it can have changed", () => {
    const settled = (type: "SETTLEMENT_WAITING" | "SETTLEMENT_COMPLETED", peerId = "alice") =>
      ({ ...head(type, 2), peerId }) as unknown as WireEvent;
    const waiting = () => store.account(KEY)?.value.waiting;
    expect(store.changesWaiting(settled("SETTLEMENT_WAITING"))).toBe(true);
    expect(store.changesWaiting(settled("SETTLEMENT_COMPLETED"))).toBe(false);
    store.setWaiting([balance(0, { netBalance: "7", settlementsWaiting: 2, settlementsWaitingAmount: "30" })]);
    expect(store.account(KEY)?.value.net).toBe(0n);
    store.apply([balance(3, { netBalance: "10" })], T0);
    expect(waiting()).toEqual({ count: 2, amount: 30n });
    expect(store.changesWaiting(settled("SETTLEMENT_COMPLETED"))).toBe(true);
    expect(store.changesWaiting(settled("SETTLEMENT_COMPLETED", "bob"))).toBe(false);
    store.setWaiting([balance(0, { settlementsWaiting: 0, settlementsWaitingAmount: "0" }), balance(0, { peerId: "new" })]);
    expect(waiting()).toEqual({ count: 0, amount: 0n });
    expect(store.accountKeys.value).toEqual([KEY]);
  });

  test("an account that a snapshot no longer names is gone", () => {
    store.snapshot(snapshot(5, { accounts: [balance(0, { peerId: "carol" })] }), T0);
    expect(store.accountKeys.value).toEqual(["carol|USD|9"]);
  });

  test("assets are known by peer; the node itself has the first", () => {
    expect(store.assetOf("alice")).toEqual({ code: "USD", scale: 9 });
    expect(store.assetOf("")).toEqual({ code: "USD", scale: 9 });
    expect(store.assetOf("nobody")).toBeNull();
  });
});

describe("packets", () => {
  test("a row grows with its events", () => {
    store.apply([received(2, "a"), forwarded(3, "a"), fulfilled(4, "a")], T0);
    const [row] = store.packets.rows(() => true);
    expect(row).toMatchObject({
      id: "a", peerId: "alice", nextHop: "bob", amount: 100n, amountOut: 99n, state: "fulfilled",
      durationMs: 5, at: T0,
    });
  });

  test("an answer alone says when the packet came", () => {
    store.apply([rejected(2, "b", 105)], T0);
    expect(store.packets.get("b")).toMatchObject({ state: "rejected", code: "F02", at: T0 + 100 });
  });

  test("newest first; what is known is not added twice by older pages", () => {
    store.apply([received(2, "a"), received(3, "b", 1)], T0);
    expect(store.packets.addPast([fulfilled(1, "b"), fulfilled(0, "old", -500)])).toBe(1);
    expect(store.packets.rows(() => true).map((row) => [row.id, row.state])).toEqual([
      ["b", "fulfilled"], ["a", "in flight"], ["old", "fulfilled"],
    ]);
  });

  test("memory is bounded", () => {
    for (let index = 0; index < 20_000; index++) store.packets.apply(received(index, `p${index}`));
    expect(store.packets.size).toBeLessThanOrEqual(6000);
    expect(store.packets.get("p0")).toBeUndefined();
    expect(store.packets.get("p19999")).toBeDefined();
  });
});

describe("rates", () => {
  test("how many were only counted in the last minute is told", () => {
    store.apply([status(2, 0, { packetsCounted: 0 }), status(4, 1000, { packetsCounted: 50 })], T0);
    expect(store.countedPerMinute.value).toBe(50);
    store.apply([status(5, 62_000, { packetsCounted: 50 })], T0);
    expect(store.countedPerMinute.value).toBe(0);
  });

  test("what was only counted is told from the snapshot on", () => {
    store.snapshot(snapshot(2, { status: { ...snapshot(2).status, packetsCounted: 7 } }), T0);
    store.apply([status(3, 0, { packetsCounted: 12 })], T0);
    expect(store.countedPerMinute.value).toBe(5);
  });

  test("what a node knew before it was restarted is asked of it again", () => {
    store.rates.put([{ timestamp: new Date(T0).toISOString(), seconds: 1, fulfilled: 3, rejected: 0, value: [] }]);
    store.snapshot(snapshot(3), T0);
    expect(store.rates.last(10)).toEqual([]);
  });
});

describe("the node", () => {
  test("the state of the accounting is known at once, with its reason, and what waits every second", () => {
    store.apply(
      [{ ...head("ACCOUNTING_STATE", 2), state: "spooling", backend: "tigerbeetle", spooled: 12, error: "away" }],
      T0,
    );
    expect(store.status.value?.accounting).toEqual({
      state: "spooling", backend: "tigerbeetle", spooled: 12, reason: "away",
    });
    store.apply([status(4, 1000, { accounting: "spooling", accountingReason: "away", accountingSpooled: 40 })], T0);
    expect(store.status.value?.accounting).toMatchObject({ spooled: 40, reason: "away" });
    store.apply([status(5, 2000, { accountingReason: "", accountingSpooled: 0 })], T0);
    expect(store.status.value?.accounting).toMatchObject({ state: "available", spooled: 0, reason: "" });
  });

  test("why the accounting is away stands in the snapshot once", () => {
    const { status: whole } = snapshot(1);
    const accounting = { state: "spooling", backend: "tigerbeetle", spooled: 3 };
    store.snapshot(snapshot(9, { status: { ...whole, reason: "accounting spooling: no answer", accounting } }), T0);
    expect(store.status.value?.accounting).toEqual({ ...accounting, reason: "no answer" });
  });

  test("a routing loop is one entry, whose packets add up", () => {
    const loop = { ...head("ROUTING_LOOP", 3), peerId: "c", nextHop: "b", prefix: "", destination: "g.x", packets: 2 };
    store.apply([loop, { ...loop, seq: 4, timestamp: at(60_000), packets: 5 }, { ...loop, seq: 5, prefix: "g.far" }], T0);
    expect(store.status.value?.routingLoops).toEqual([
      { peerId: "c", nextHop: "b", prefix: "g.far", packets: 2, lastAt: at(0) },
      { peerId: "c", nextHop: "b", prefix: "", packets: 7, lastAt: at(60_000) },
    ]);
    expect(store.incidents.value).toHaveLength(3);
  });

  test("a next hop that answers T04 is one entry, whose packets add up", () => {
    const short = { ...head("NEXT_HOP_SHORT", 3), peerId: "b", triggeredBy: "g.b", message: "limit", packets: 2 };
    store.apply([short, { ...short, seq: 4, timestamp: at(60_000), packets: 5 }], T0);
    expect(store.status.value?.nextHopsShort).toEqual([
      { peerId: "b", triggeredBy: "g.b", message: "limit", packets: 7, lastAt: at(60_000) },
    ]);
  });

  test("the state of live rates follows the status of each second", () => {
    store.apply([status(2, 0, { rates: "fresh" })], T0);
    expect(store.status.value?.rates?.state).toBe("fresh");
    store.apply([status(3, 1000, { rates: "stale" })], T0);
    expect(store.status.value?.rates?.state).toBe("stale");
  });

  test("links are noted", () => {
    store.peers.value = [{ peerId: "alice", connected: true, lastError: "" } as never];
    store.apply([{ ...head("PEER_DISCONNECTED", 3), peerId: "alice", direction: "inbound", reason: "gone" }], T0);
    expect(store.peers.value[0]).toMatchObject({ connected: false, lastError: "gone" });
    expect(store.incidents.value.map((one) => one.event.type)).toEqual(["PEER_DISCONNECTED"]);
  });

  test("lateness is told against the quickest frame, whatever the clocks say", () => {
    const skew = 3_600_000;
    store.apply([status(2, 0)], T0 + skew + 5);
    expect(store.lateMs.value).toBe(0);
    store.apply([status(3, 1000)], T0 + skew + 5000);
    expect(store.lateMs.value).toBe(3995);
    store.apply([status(4, 6000)], T0 + skew + 6010);
    expect(store.lateMs.value).toBe(0);
  });

  test("an unknown type of event is noted, not fatal", () => {
    store.apply([{ ...head("SOMETHING_NEW", 2) } as never], T0);
    expect(store.incidents.value).toHaveLength(1);
    expect(store.incidents.value[0]?.at).toBe(Date.parse(at(0)));
  });
});

test("events are gathered and applied once per frame", () => {
  const applied: number[] = [];
  const frames: (() => void)[] = [];
  const gatherer = new Gatherer((events) => applied.push(events.length), (work) => frames.push(work));
  gatherer.add([balance(1)]);
  gatherer.add([balance(2), balance(3)]);
  expect(applied).toEqual([]);
  expect(frames).toHaveLength(1);
  frames.shift()?.();
  expect(applied).toEqual([3]);
  gatherer.add([balance(4)]);
  frames.shift()?.();
  expect(applied).toEqual([3, 1]);
});
