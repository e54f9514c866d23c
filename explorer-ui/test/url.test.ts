import { expect, test } from "vitest";
import { formatPlace, parsePlace, withQuery } from "../src/model/url";

test("a place survives its link", () => {
  const place = { tab: "packets" as const, query: { peer: "bob", q: "g.bob & co=1?#", state: "rejected" } };
  expect(parsePlace(formatPlace(place))).toEqual(place);
});

test.each(["", "#", "#/", "#nonsense", "#nonsense?x=1"])("%j is the dashboard", (hash) => {
  expect(parsePlace(hash).tab).toBe("dashboard");
});

test("empty values are left out", () => {
  const place = withQuery({ tab: "peers", query: { peer: "a" } }, { peer: "", route: "g." });
  expect(place.query).toEqual({ route: "g." });
  expect(formatPlace(place)).toBe("#peers?route=g.");
  expect(formatPlace({ tab: "keys", query: {} })).toBe("#keys");
});
