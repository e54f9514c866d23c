import { expect, test } from "vitest";
import { accountOf } from "../src/model/accounts";
import { addPeer, addRoute, limitsOf, sendPacket } from "../src/model/forms";
import { actions, bodyOf, missingIn, previewPath, shownPath, startOf, unitsOf, wrongIn } from "../src/model/operate";
import { readable, sentence } from "../src/model/sentence";
import type { PeerItem, PeerTerms } from "../src/model/types";
import { balance } from "./samples";

test("an amount is exact in its asset, or none", () => {
  expect(unitsOf("1.25", 2)).toBe(125n);
  expect(unitsOf(" 1,000.50 ", 2)).toBe(100_050n);
  expect(unitsOf("7", 0)).toBe(7n);
  expect(unitsOf("18446744073709551615", 0)).toBe(2n ** 64n - 1n);
  for (const text of ["", "1.251", "-1", "1e3", "abc", "1.", "18446744073709551616"]) expect(unitsOf(text, text === "1.251" ? 2 : 0)).toBeNull();
});

test("what was asked for is in the body, in smallest units", () => {
  const raise = actions.raiseLimit("bob", { code: "USD", scale: 9 }, "2");
  expect(bodyOf(raise, { creditLimit: "2.5" })).toEqual({ creditLimit: "2500000000" });
  expect(bodyOf(actions.enable("bob", false), {})).toEqual({ enabled: false });
  expect(bodyOf(actions.reconnect("bob"), {})).toBeUndefined();
});

const USD = { code: "USD", scale: 9 };

test("of a form what is empty is left out, and of limits only what was changed is sent", () => {
  const add = addPeer(USD);
  expect(missingIn(add, startOf(add))?.name).toBe("id");
  const filled = { ...startOf(add), id: "bob", secret: "s", routes: "g.bob, g.shop", creditLimit: "1.5", assetScale: "2" };
  expect(missingIn(add, filled)).toBeUndefined();
  expect(bodyOf(add, filled)).toEqual({
    id: "bob", secret: "s", relation: "peer", assetCode: "USD", assetScale: 2, creditLimit: "150", routes: ["g.bob", "g.shop"],
  }); // prettier-ignore
  expect(wrongIn(add, { ...filled, assetCode: "EUR", creditLimit: "1.555" })).toBe("That is no amount in EUR.");
  expect(wrongIn(add, { ...filled, assetScale: "two" })).toContain("no whole number");
  const terms = {
    id: "bob", assetCode: "USD", assetScale: 9, creditLimit: "2000000000", maxPayable: "7", maxInFlightValue: null, maxPacketAmount: null,
    rateLimit: 5, settleThreshold: null, settleTo: "0",
  } as PeerTerms; // prettier-ignore
  const limits = limitsOf(terms);
  expect(bodyOf(limits, startOf(limits))).toEqual({});
  expect(bodyOf(limits, { ...startOf(limits), creditLimit: "3", maxPayable: "", rateLimit: "10" })).toEqual({ creditLimit: "3000000000", maxPayable: null, rateLimit: 10 });
  expect(bodyOf(addRoute(["bob"]), { prefix: "", nextHop: "bob" })).toEqual({ prefix: "", nextHop: "bob" });
});

test("what a test packet met is said", () => {
  const { done } = sendPacket(USD);
  if (typeof done === "string") throw new Error(done);
  expect(done({ status: "fulfilled", durationMs: 4.21 })).toBe("Fulfilled after 4.2 ms.");
  expect(done({ status: "rejected", code: "F02", message: "no route", triggeredBy: "g.hub", durationMs: 12.4 })).toBe("Rejected after 12 ms: F02 no route, by g.hub.");
});

test("a preview is asked for at the same place", () => {
  expect(previewPath(actions.remove("bob"))).toBe("admin/peers/bob?preview=true");
  expect(previewPath({ ...actions.remove("bob"), path: "admin/peers/bob?force=true" })).toBe("admin/peers/bob?force=true&preview=true");
});

test("what is done is bound to what was shown, where the connector has said it", () => {
  const force = { ...actions.remove("bob"), path: "admin/peers/bob?force=true" };
  expect(shownPath(force, { changes: [], effects: [], shown: "ab" })).toBe("admin/peers/bob?force=true&shown=ab");
  expect(shownPath(force, { changes: [], effects: ["said here"] })).toBe("admin/peers/bob?force=true");
});

test("names in paths are escaped", () => {
  expect(actions.step("a/b", "00", "confirm", "1 USD").path).toBe("admin/accounts/a%2Fb/settlements/00/confirm");
});

const peer = (peerId: string, connected: boolean, change: Partial<PeerItem> = {}) => ({ peerId, connected, ...change }) as PeerItem;
const said = (given: Partial<Parameters<typeof sentence>[0]>) =>
  sentence({ peers: [], accounts: [], rate: 0, needs: 0, ...given }).parts.map((part) => part.text).join(", ");

test("the state is one sentence", () => {
  expect(
    said({
      peers: [peer("a", true), peer("b", true), peer("c", false)],
      accounts: [
        accountOf(balance(1, { peerId: "a", netBalance: "3860000000" })),
        accountOf(balance(1, { peerId: "b", netBalance: "-780000000" })),
      ],
      rate: 19.64,
      needs: 1,
    }),
  ).toBe("2 of 3 links up, 19.6 packets/s, owed 3.86 USD, owing 0.78 USD, 1 needs you");
});

test("links that may be down are told apart, and what is not known is not zero", () => {
  expect(said({ peers: [peer("a", true), peer("b", false, { offlineExpected: true })], rate: null })).toBe(
    "1 of 2 links up (1 expected to be down), packets/s not known yet, nothing needs you",
  );
});

test("sums of a currency at several scales are exact", () => {
  const accounts = [
    accountOf(balance(1, { peerId: "a", netBalance: "125", assetScale: 2 })),
    accountOf(balance(1, { peerId: "b", netBalance: "250000000", assetScale: 9 })),
    accountOf(balance(1, { peerId: "c", netBalance: "0", assetCode: "EUR" })),
  ];
  expect(said({ accounts })).toBe("no peers, 0 packets/s, even in EUR, owed 1.5 USD, nothing needs you");
  expect(readable(1_234_567_891n, 9)).toBe("1.234568");
  expect(readable(1n, 9)).toBe("0.000000001");
});
