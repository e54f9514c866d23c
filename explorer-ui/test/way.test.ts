import { describe, expect, it } from "vitest";
import { duration } from "../src/model/format";
import type { Hop, HopsEverywhere, HopsOfNode } from "../src/model/types";
import { type Missing, skewInWords, type Stop, wayOf } from "../src/model/way";
import { at } from "./samples";

const USD = { code: "USD", scale: 9 };

function hop(change: Partial<Hop>): Hop {
  return {
    packetId: "1".repeat(32), status: "fulfilled", peerId: "", nextHop: null, destination: "g.c", amount: "100", amountOut: null,
    fee: null, assetIn: USD, assetOut: USD, receivedAt: at(0), durationMs: 10, reservedMs: 1, forwardedMs: null, answeredMs: null,
    postedMs: null, code: null, message: null, triggeredBy: null, ways: [], ...change,
  }; // prettier-ignore
}

function node(nodeId: string, items: readonly Hop[], change: Partial<HopsOfNode> = {}): HopsOfNode {
  return { url: `http://${nodeId}`, error: "", nodeId, ilpAddress: `g.${nodeId}`, clockOffsetMs: 0, clockErrorMs: 1, items, more: false, ...change };
}

const A = hop({ packetId: "a".repeat(32), nextHop: "b", ways: ["b"], amountOut: "100", durationMs: 20, forwardedMs: 2, answeredMs: 18 });
const B = hop({ packetId: "b".repeat(32), peerId: "a", nextHop: "c", ways: ["c"], amountOut: "99", fee: "1", receivedAt: at(4), durationMs: 12, forwardedMs: 1, answeredMs: 10 });
const C = hop({ packetId: "c".repeat(32), peerId: "b", amount: "99", receivedAt: at(6), durationMs: 5 });

function everywhere(...nodes: HopsOfNode[]): HopsEverywhere {
  return { condition: "00".repeat(32), configured: true, nodes };
}

const own = (nodeId: string, items: readonly Hop[]) => node(nodeId, items, { url: "" });
const named = (way: ReturnType<typeof wayOf>) => way?.legs.map((one) => one.name);
const stops = (way: ReturnType<typeof wayOf>) => (way?.legs ?? []).filter((one): one is Stop => one.kind === "stop");

describe("the way of a packet", () => {
  it("is the same whichever of its nodes asks", () => {
    for (const [mine, rest] of [[own("a", [A]), [node("c", [C]), node("b", [B])]], [own("b", [B]), [node("c", [C]), node("a", [A])]], [own("c", [C]), [node("b", [B]), node("a", [A])]]] as const) {
      expect(named(wayOf(everywhere(mine, ...rest)))).toEqual(["a", "b", "c"]);
    }
  });

  it("says what each took itself, and what lies between them", () => {
    const way = wayOf(everywhere(own("a", [A]), node("b", [B]), node("c", [C])));
    expect(way?.total).toBe(20);
    expect(stops(way).map((one) => one.inside)).toEqual([4, 3, 5]);
    expect(stops(way).map((one) => one.link)).toEqual([null, 4, 4]);
    expect(stops(way).map((one) => one.begin)).toEqual([0, 4, 7]);
    expect((way?.inside ?? 0) + (way?.between ?? 0)).toBe(way?.total);
  });

  it("does not depend on clocks, and says which is wrong", () => {
    const late = { ...B, receivedAt: at(4 - 3_000_000) };
    const way = wayOf(everywhere(own("a", [A]), node("b", [late], { clockOffsetMs: -3_000_000 }), node("c", [C])));
    expect(stops(way).map((one) => one.begin)).toEqual([0, 4, 7]);
    const [a, b, c] = stops(way).map((one) => skewInWords(one, duration));
    expect(a).toBe("");
    expect(b).toMatch(/^its clock is 50 min behind/);
    expect(c).toBe("");
  });

  it("a node that is silent, that is not listed or that kept nothing has its place, and what is beyond it too", () => {
    const silent = node("b", [], { error: "no answer within 2 s", clockOffsetMs: null, clockErrorMs: null });
    const cases: [HopsOfNode[], RegExp][] = [
      [[silent], /could not be asked: no answer within 2 s/],
      [[{ ...silent, nodeId: null }], /not in EXPLORER_NODES, or is one of those/],
      [[], /not asked: it is not in EXPLORER_NODES/],
      [[node("b", [])], /keeps nothing/],
    ];
    for (const [more, why] of cases) {
      const way = wayOf(everywhere(own("a", [A]), ...more, node("c", [C])));
      expect(named(way)).toEqual(["a", "b", "c"]);
      expect((way?.legs[1] as Missing).why).toMatch(why);
      // Through b, and b itself: all that a waited but for c.
      expect(stops(way)[1]?.link).toBe(11);
    }
    const way = wayOf(everywhere(own("c", [C]), silent));
    expect(named(way)).toEqual(["b", "c"]);
    expect(way?.silent).toEqual([]);
    expect(wayOf(everywhere(own("a", [hop({})]), silent))?.silent).toEqual([{ name: "b", error: "no answer within 2 s" }]);
  });

  it("a peer with another name than its node is found by what was sent to it", () => {
    const way = wayOf(everywhere(own("a", [{ ...A, nextHop: "bank", ways: ["bank"] }]), node("b", [{ ...B, peerId: "customer" }]), node("c", [C])));
    expect(named(way)).toEqual(["a", "b", "c"]);
    expect(stops(way).map((one) => one.named)).toEqual([true, false, true]);
  });

  it("of many packets with one condition, as of pings, each has the next in time", () => {
    const many = [0, 1000, 2000].map((ms, index) => ({ ...A, packetId: `${index}`.repeat(32), receivedAt: at(ms) }));
    const there = [0, 1000, 2000].map((ms, index) => ({ ...B, packetId: `${index + 5}`.repeat(32), receivedAt: at(ms + 5500) }));
    const way = wayOf(everywhere(own("a", many), node("b", there, { clockOffsetMs: 5500, more: true })), "1".repeat(32));
    expect(stops(way).map((one) => one.hop.packetId[0])).toEqual(["1", "6"]);
    expect(way?.others).toBe(4);
    expect(way?.more).toBe(true);
  });

  it("a packet in flight is unknown where it is, and nothing is no way", () => {
    const flying = { ...A, status: "pending" as const, durationMs: null, answeredMs: null };
    const way = wayOf(everywhere(own("a", [flying]), node("b", [{ ...B, durationMs: null, answeredMs: null, status: "pending" }])));
    expect(way?.total).toBeNull();
    expect(stops(way).map((one) => [one.inside, one.link])).toEqual([[null, null], [null, null]]);
    expect(wayOf(everywhere(own("a", [])))).toBeNull();
  });
});
