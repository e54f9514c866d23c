import { expect, test } from "vitest";
import { accountOf, creditUsed, levelOf, levelWords, towardsSettlement } from "../src/model/accounts";
import { balance } from "./samples";

test.each([
  [null, "calm"],
  [0, "calm"],
  [69.9, "calm"],
  [70, "amber"],
  [89.9, "amber"],
  [90, "rose"],
  [250, "rose"],
])("%s %% is %s", (share, level) => {
  expect(levelOf(share)).toBe(level);
});

test("credit in use is what is no longer available, and never below zero", () => {
  expect(creditUsed(accountOf(balance(1, { availableCredit: "250" })))).toEqual({ used: 750n, share: 75 });
  expect(creditUsed(accountOf(balance(1, { availableCredit: "1500" })))).toEqual({ used: 0n, share: 0 });
  expect(creditUsed(accountOf(balance(1, { creditLimit: "0", availableCredit: "0" })))).toEqual({ used: 0n, share: null });
});

test("progress to settlement counts what we owe", () => {
  const account = (net: string, threshold: string | null) =>
    towardsSettlement(accountOf(balance(1, { netBalance: net, settlementThreshold: threshold })));
  expect(account("-700", "1000")).toEqual({ owed: 700n, share: 70 });
  expect(account("700", "1000")).toEqual({ owed: 0n, share: 0 });
  expect(account("-1", "0")).toEqual({ owed: 1n, share: 100 });
  expect(account("-700", null)).toBeNull();
});

test.each([
  [null, ""],
  [69.9, ""],
  [70, "above 70 %"],
  [90, "above 90 %"],
  [100, "above 90 %"],
  [100.1, "above 100 %"],
])("a share of %s is in words %j", (share, words) => {
  expect(levelWords(share)).toBe(words);
});
