import { expect, test } from "vitest";
import { lineOf, pictureOf } from "../src/model/network";
import type { AccountItem, Network } from "../src/model/types";
import { balance } from "./samples";

function account(peerId: string, debit: number, credit: number, pending = 0): AccountItem {
  return balance(0, {
    peerId,
    debitBalance: String(debit),
    creditBalance: String(credit),
    netBalance: String(debit - credit),
    pendingCredits: String(pending),
  });
}

function network(nodes: Record<string, AccountItem[]>): Network {
  return {
    configured: true,
    nodes: Object.entries(nodes).map(([nodeId, accounts]) => ({
      url: `http://${nodeId}`, error: "", nodeId, ilpAddress: `g.${nodeId}`, status: "healthy",
      accountingState: "available", accounts,
    })),
  }; // prettier-ignore
}

const NOTHING = new Map<string, string>();

test("a link whose books mirror each other, with both sides' balances", () => {
  const { picture } = pictureOf(network({ a: [account("b", 0, 500)], b: [account("a", 500, 0)] }), NOTHING);
  expect(picture.links).toHaveLength(1);
  expect(picture.links[0]).toMatchObject({ a: "a", b: "b", netAtA: -500n, netAtB: 500n, verdict: "mirrored" });
});

test("books that differ are only called so when they stood still and nothing is held", () => {
  const differing = network({ a: [account("b", 0, 500)], b: [account("a", 400, 0)] });
  const first = pictureOf(differing, NOTHING);
  expect(first.picture.links[0]?.verdict).toBe("in motion");
  expect(pictureOf(differing, first.still).picture.links[0]?.verdict).toBe("differs");
  const moved = network({ a: [account("b", 0, 600)], b: [account("a", 500, 0)] });
  expect(pictureOf(moved, first.still).picture.links[0]?.verdict).toBe("in motion");
  const held = network({ a: [account("b", 0, 500, 7)], b: [account("a", 400, 0)] });
  expect(pictureOf(held, pictureOf(held, NOTHING).still).picture.links[0]?.verdict).toBe("in motion");
});

test("equal net balances of different books are not mirrored", () => {
  const wrong = network({ a: [account("b", 100, 500)], b: [account("a", 400, 0)] });
  expect(pictureOf(wrong, pictureOf(wrong, NOTHING).still).picture.links[0]?.verdict).toBe("differs");
});

test("a node may be written otherwise than its peers call it", () => {
  const { picture } = pictureOf(network({ Alice_1: [account("b", 0, 1)], b: [account("alice-1", 1, 0)] }), NOTHING);
  expect(picture.links[0]).toMatchObject({ a: "Alice_1", b: "b", verdict: "mirrored" });
});

test("a peer that does not know the link leaves one side; strangers make no link", () => {
  const { picture } = pictureOf(network({ a: [account("b", 0, 5), account("sender", 5, 0)], b: [] }), NOTHING);
  expect(picture.links.map((link) => link.verdict)).toEqual(["one side"]);
});

test("a line is found whatever the order; a ring and a star are none", () => {
  const nodes = (pairs: readonly (readonly [string, string])[]) => {
    const all: Record<string, AccountItem[]> = {};
    for (const [a, b] of pairs) {
      (all[a] ??= []).push(account(b, 0, 0));
      (all[b] ??= []).push(account(a, 0, 0));
    }
    return pictureOf(network(all), NOTHING).picture;
  };
  expect(lineOf(nodes([["c", "b"], ["a", "b"], ["c", "d"]]))).toEqual(["a", "b", "c", "d"]);
  expect(lineOf(nodes([["a", "b"], ["b", "c"], ["c", "a"]]))).toBeNull();
  expect(lineOf(nodes([["m", "a"], ["m", "b"], ["m", "c"]]))).toBeNull();
});

test("a settlement that only one side has booked yet is under way, and no fault of the books", () => {
  const settling = network({
    a: [{ ...account("b", 0, 0), settlementState: "IN_PROGRESS" }],
    b: [account("a", 500, 0)],
  });
  expect(pictureOf(settling, pictureOf(settling, NOTHING).still).picture.links[0]?.verdict).toBe("settling");
  const over = network({ a: [account("b", 0, 0)], b: [account("a", 500, 0)] });
  expect(pictureOf(over, pictureOf(over, NOTHING).still).picture.links[0]?.verdict).toBe("differs");
});
