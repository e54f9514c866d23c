import { expect, test } from "vitest";
import type { IncomingPayment } from "../src/model/types";
import { readAsset, webhookInWords } from "../src/model/wallets";

test("an asset is read from its text, whatever its code", () => {
  expect(readAsset("USD/9")).toEqual({ code: "USD", scale: 9 });
  expect(readAsset("A/B/0")).toEqual({ code: "A/B", scale: 0 });
  for (const text of ["", "USD", "/9", "USD/", "USD/x", "USD/256", "USD/-1", "USD/1.5"]) {
    expect(readAsset(text)).toBeNull();
  }
});

test("the webhook is told of in words", () => {
  const words = (webhook: IncomingPayment["webhook"], webhookAttempts = 0) =>
    webhookInWords({ webhook, webhookAttempts } as IncomingPayment)?.words;
  expect(words("none")).toBeUndefined();
  expect(words("waiting")).toBe("to be told");
  expect(words("waiting", 1)).toBe("tried once");
  expect(words("waiting", 3)).toBe("tried 3 times");
  expect(words("told", 3)).toBe("told");
  expect(words("dead", 34)).toBe("could not be told");
});
