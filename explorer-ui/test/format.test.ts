import { describe, expect, test } from "vitest";
import { amount, balance, compact, count, duration, exact, exactTitle, owes, percent, share, shortId, span, units } from "../src/model/format";

describe("amounts", () => {
  test.each([
    [0n, 9, "0"],
    [1n, 9, "0.000000001"],
    [1000n, 9, "0.000001"],
    [-1_234_567_890_123n, 9, "\u22121,234.567890123"],
    [1_500n, 2, "15"],
    [7n, 0, "7"],
    [18_446_744_073_709_551_615n, 0, "18,446,744,073,709,551,615"],
  ])("%s at scale %s is exactly %s", (value, scale, text) => {
    expect(exact(value, scale)).toBe(text);
  });

  test.each([
    [1_234_567_890_123n, 9, "1,234.57"],
    [1_999_999_999n, 9, "2"],
    [1_234_567n, 9, "0.001235"],
    [1n, 9, "0.000000001"],
    [123_456_789_012n, 2, "1,234,567,890.12"],
    [5n, 0, "5"],
  ])("%s at scale %s reads %s", (value, scale, text) => {
    expect(amount(value, scale)).toBe(text);
  });

  test("beyond 2^53 no digit is lost", () => {
    expect(exact(units("9007199254740993"), 0)).toBe("9,007,199,254,740,993");
    expect(exact(units("340282366920938463463374607431768211455"), 9)).toBe(
      "340,282,366,920,938,463,463,374,607,431.768211455",
    );
  });

  test("what is not zero never reads as zero", () => {
    for (let scale = 0; scale < 20; scale++) {
      for (const value of [1n, 3n, -2n]) expect(amount(value, scale)).toMatch(/[1-9]/);
    }
  });

  test("a sign is a real minus, and a plus where it is asked for", () => {
    expect(amount(-5n, 0)).toBe("\u22125");
    expect(amount(5n, 0, true)).toBe("+5");
    expect(amount(0n, 0, true)).toBe("0");
  });

  test("compact amounts for axes", () => {
    expect(compact(1_250_000n, 0)).toBe("1.3M");
    expect(compact(-2_000n, 0)).toBe("\u22122K");
    expect(compact(999n, 0)).toBe("999");
    expect(compact(250n, 6)).toBe("0.00025");
  });

  test("the title names code, raw units and scale", () => {
    expect(exactTitle(-1000n, { code: "USD", scale: 9 })).toBe(
      "\u22120.000001 USD (\u22121,000 units of 10^\u22129)",
    );
  });
});

test("words for both signs and for none", () => {
  expect([owes(1n), owes(-1n), owes(0n)]).toEqual(["owes us", "we owe", "even"]);
});

test("percent of bigints, none without a whole", () => {
  expect(percent(1n, 3n)).toBe(33.3);
  expect(percent(7n, 10n)).toBe(70);
  expect(percent(1n, 0n)).toBeNull();
});

test("counts, durations and spans", () => {
  expect(count(1234567)).toBe("1,234,567");
  expect(count(12.34)).toBe("12.3");
  expect(count(Number.NaN)).toBe("–");
  expect(duration(0.424)).toBe("0.42 ms");
  expect(duration(18.4)).toBe("18 ms");
  expect(duration(1400)).toBe("1.4 s");
  expect(duration(null)).toBe("–");
  expect(span(59)).toBe("59 s");
  expect(span(3 * 3600 + 20 * 60)).toBe("3 h 20 min");
  expect(span(4 * 86_400 + 7200)).toBe("4 d 2 h");
});

test("a short id keeps both ends", () => {
  expect(shortId("0123456789abcdef")).toBe("012345…cdef");
  expect(shortId("short")).toBe("short");
});

test("a large share is a round number", () => {
  expect([0, 12.3, 999.9, 94_621.3].map(share)).toEqual(["0 %", "12.3 %", "999.9 %", "94,621 %"]);
});

test("a balance has all decimals of its asset, so that balances align", () => {
  expect(balance(3_859_262_260n, 9)).toBe("3.859262260");
  expect(balance(-5n, 2, true)).toBe("\u22120.05");
  expect(balance(1_234_567n, 2, true)).toBe("+12,345.67");
  expect(balance(7n, 0)).toBe("7");
  expect(balance(1n, 18)).toBe("0.000000000000000001");
});
