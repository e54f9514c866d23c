import { expect, test } from "vitest";
import { layoutOf, lineOf, ringOf } from "../src/model/layout";
import { drawn, type NetPicture, pictureOf } from "../src/model/network";
import type { Network, NetworkLink } from "../src/model/types";
import { at, balance } from "./samples";

function account(peerId: string, debit: number, credit: number, pending = 0): NetworkLink {
  return balance(0, {
    peerId,
    debitBalance: String(debit),
    creditBalance: String(credit),
    netBalance: String(debit - credit),
    pendingCredits: String(pending),
  });
}

function network(nodes: Record<string, NetworkLink[]>): Network {
  return {
    configured: true,
    nodes: Object.entries(nodes).map(([nodeId, accounts]) => ({
      url: `http://${nodeId}`, error: "", at: at(0), nodeId, ilpAddress: `g.${nodeId}`, status: "healthy",
      accountingState: "available", accounts,
    })),
  }; // prettier-ignore
}

/** The first is this node. */
function own(found: Network): Network {
  return { ...found, nodes: found.nodes.map((node, index) => (index === 0 ? { ...node, url: "" } : node)) };
}

/** A node falls silent: its last values stay. */
function silent(found: Network, nodeId: string, later = 0): Network {
  const nodes = found.nodes.map((node) =>
    node.nodeId === nodeId ? { ...node, error: "cannot be reached", status: null } : { ...node, at: at(later) },
  );
  return { ...found, nodes };
}

test("a link whose books mirror each other, with both sides' balances", () => {
  const { picture } = pictureOf(network({ a: [account("b", 0, 500)], b: [account("a", 500, 0)] }));
  expect(picture.links).toHaveLength(1);
  expect(picture.links[0]).toMatchObject({ a: "a", b: "b", netAtA: -500n, netAtB: 500n, verdict: "mirrored" });
});

test("books that differ are only called so when they stood still and nothing is held", () => {
  const differing = network({ a: [account("b", 0, 500)], b: [account("a", 400, 0)] });
  const first = pictureOf(differing);
  expect(first.picture.links[0]?.verdict).toBe("in motion");
  expect(pictureOf(differing, first.memory).picture.links[0]?.verdict).toBe("differs");
  const moved = network({ a: [account("b", 0, 600)], b: [account("a", 500, 0)] });
  expect(pictureOf(moved, first.memory).picture.links[0]?.verdict).toBe("in motion");
  const held = network({ a: [account("b", 0, 500, 7)], b: [account("a", 400, 0)] });
  expect(pictureOf(held, pictureOf(held).memory).picture.links[0]?.verdict).toBe("in motion");
});

test("equal net balances of different books are not mirrored", () => {
  const wrong = network({ a: [account("b", 100, 500)], b: [account("a", 400, 0)] });
  expect(pictureOf(wrong, pictureOf(wrong).memory).picture.links[0]?.verdict).toBe("differs");
});

test("a node may be written otherwise than its peers call it", () => {
  const { picture } = pictureOf(network({ Alice_1: [account("b", 0, 1)], b: [account("alice-1", 1, 0)] }));
  expect(picture.links[0]).toMatchObject({ a: "alice-1", b: "b", verdict: "mirrored" });
  expect(picture.nodes.map((node) => node.id)).toContain("Alice_1");
});

test("a peer that does not know the link leaves one side; a configured peer is there though nobody asks it", () => {
  const { picture } = pictureOf(own(network({ a: [account("b", 0, 5), account("sender", 5, 0)], b: [] })));
  expect(picture.links.map((link) => [link.b, link.verdict])).toEqual([["b", "one side"], ["sender", "not asked"]]);
  expect(picture.nodes.map((node) => [node.key, node.kind, node.ours])).toEqual([["a", "self", false], ["b", "node", true], ["sender", "peer", true]]);
});

function of(picture: NetPicture): [string[], (readonly [string, string])[]] {
  return [picture.nodes.map((node) => node.key), picture.links.map((link) => [link.a, link.b] as const)];
}

test("a line is found whatever the order; a ring and a star are none", () => {
  const nodes = (pairs: readonly (readonly [string, string])[]) => {
    const all: Record<string, NetworkLink[]> = {};
    for (const [a, b] of pairs) {
      (all[a] ??= []).push(account(b, 0, 0));
      (all[b] ??= []).push(account(a, 0, 0));
    }
    return of(pictureOf(network(all)).picture);
  };
  expect(lineOf(...nodes([["c", "b"], ["a", "b"], ["c", "d"]]))).toEqual(["a", "b", "c", "d"]);
  expect(lineOf(...nodes([["a", "b"], ["b", "c"], ["c", "a"]]))).toBeNull();
  expect(lineOf(...nodes([["m", "a"], ["m", "b"], ["m", "c"]]))).toBeNull();
});

test("a settlement that only one side has booked yet is under way, and no fault of the books", () => {
  const settling = network({
    a: [{ ...account("b", 0, 0), settlementState: "IN_PROGRESS" }],
    b: [account("a", 500, 0)],
  });
  expect(pictureOf(settling, pictureOf(settling).memory).picture.links[0]?.verdict).toBe("settling");
  const over = network({ a: [account("b", 0, 0)], b: [account("a", 500, 0)] });
  expect(pictureOf(over, pictureOf(over).memory).picture.links[0]?.verdict).toBe("differs");
});

const MESH = own(
  network(
    Object.fromEntries(
      Array.from({ length: 10 }, (_, i) => [`n${i}`, Array.from({ length: 10 }, (_, j) => j).filter((j) => j !== i).map((j) => account(`n${j}`, 1, 1))]),
    ),
  ),
);

test("a node that dies stays where it was, as a ghost with its last values", () => {
  const before = pictureOf(MESH).picture;
  const after = pictureOf(silent(MESH, "n3", 5000)).picture;
  expect(before.links).toHaveLength(45);
  expect(after.links).toHaveLength(45);
  expect(after.shape).toBe(before.shape);
  expect(layoutOf(...of(after), "n0")).toEqual(layoutOf(...of(before), "n0"));
  const ghost = after.nodes.find((node) => node.key === "n3");
  expect(ghost).toMatchObject({ ghost: true, id: "n3", heardAt: Date.parse(at(0)) });
  const link = after.links.find((one) => one.key.startsWith("n0 n3"));
  expect(link).toMatchObject({ verdict: "last known", netAtA: 0n, netAtB: 0n, staleA: null, staleB: Date.parse(at(0)) });
});

test("ten nodes that are all linked stand apart from each other", () => {
  const { kind, places } = layoutOf(...of(pictureOf(MESH).picture), "n0");
  expect(kind).toBe("ring");
  const spots = [...places.values()];
  expect(spots).toHaveLength(10);
  for (const [i, a] of spots.entries()) {
    for (const b of spots.slice(i + 1)) expect(Math.hypot(a.x - b.x, a.y - b.y)).toBeGreaterThan(0.25);
  }
});

test("every node has a place, also two that have only each other", () => {
  const pairs = [["a", "b"], ["c", "d"], ["e", "f"], ["e", "g"], ["e", "h"]] as const;
  const keys = ["a", "b", "c", "d", "e", "f", "g", "h", "alone"];
  expect([...layoutOf(keys, pairs, "a").places.keys()].sort()).toEqual([...keys].sort());
  expect(layoutOf(["m", "x", "y", "z"], [["m", "x"], ["m", "y"], ["m", "z"]], "x").places.get("m")).toMatchObject({ x: 0.5, y: 0.5 });
});

test("around a ring, those who are linked stand beside each other", () => {
  const pairs = [["a", "d"], ["d", "b"], ["b", "e"], ["e", "c"], ["c", "a"]] as const;
  const order = ringOf(["a", "b", "c", "d", "e"], pairs, "a");
  const beside = (x: string, y: string) => [1, 4].includes(Math.abs(order.indexOf(x) - order.indexOf(y)));
  expect(order[0]).toBe("a");
  expect(pairs.every(([x, y]) => beside(x, y))).toBe(true);
});

test("packets per second and their direction come from two readings of one side", () => {
  const reading = (ms: number, packetsIn: number, packetsOut: number) => {
    const found = network({ a: [{ ...account("b", 0, 0), connected: true, packetsIn, packetsOut }], b: [account("a", 0, 0)] });
    return { ...found, nodes: found.nodes.map((node) => ({ ...node, at: at(ms) })) };
  };
  const first = pictureOf(reading(0, 10, 10));
  expect(first.picture.links[0]).toMatchObject({ rate: null, state: "up" });
  const second = pictureOf(reading(2000, 12, 18), first.memory);
  expect(second.picture.links[0]).toMatchObject({ rate: 5, forth: true });
  // The same answer again, and counters that begin anew with their node.
  expect(pictureOf(reading(2000, 12, 18), second.memory).picture.links[0]).toMatchObject({ rate: 5 });
  expect(pictureOf(reading(4000, 1, 0), second.memory).picture.links[0]).toMatchObject({ rate: null });
  expect(pictureOf(reading(4000, 22, 18), second.memory).picture.links[0]).toMatchObject({ rate: 5, forth: false });
});

test("a link is down if one side says so, and a settlement is its state", () => {
  const found = network({
    a: [{ ...account("b", 0, 5), connected: false, settlementState: "IN_PROGRESS" }, { ...account("c", 0, 0), connected: false, offlineExpected: true }],
    b: [{ ...account("a", 5, 0), connected: true, settlementsWaiting: 2, settlementsWaitingAmount: "7" }],
  });
  const { links } = pictureOf(found).picture;
  expect(links[0]).toMatchObject({ state: "down", verdict: "mirrored", settlement: { state: "waits", at: "b", count: 2, amount: 7n } });
  expect(links[1]).toMatchObject({ state: "away", settlement: null });
});

test("of very many peers so many are drawn, the same whoever answers", () => {
  const many = own(network({ hub: Array.from({ length: 60 }, (_, i) => account(`p${i}`, 0, 0)), p7: [] }));
  const keys = drawn(pictureOf(many).picture, 40).nodes.map((node) => node.key);
  expect(keys.slice(0, 3)).toEqual(["hub", "p7", "p0"]);
  expect(keys).toHaveLength(40);
  expect(drawn(pictureOf(silent(many, "p7")).picture, 40).nodes.map((node) => node.key)).toEqual(keys);
});

test("a node that tells very many accounts makes no picture that never ends", () => {
  const accounts = Array.from({ length: 30_000 }, (_, i) => ({ ...account("b", 0, 0), assetCode: `A${i}` }));
  const found = own(network({ a: accounts, b: accounts.map((one) => ({ ...one, peerId: "a" })) }));
  const { picture } = pictureOf(found);
  expect(picture.links).toHaveLength(2000);
  expect(picture.links.every((link) => link.verdict === "mirrored")).toBe(true);
});
