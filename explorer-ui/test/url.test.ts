import { expect, test } from "vitest";
import { formatPlace, parsePlace, withQuery, zoomOf, zoomText } from "../src/model/url";

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

test("a peer has a page of its own, whatever it is called; the older form leads there too", () => {
  for (const peer of ["bob", "a b/c?d#e", "100%"]) {
    const place = { tab: "peers" as const, query: { peer, range: "1h" } };
    expect(parsePlace(formatPlace(place))).toEqual(place);
  }
  expect(formatPlace({ tab: "peers", query: { peer: "bob" } })).toBe("#peers/bob");
  expect(parsePlace("#peers?peer=bob")).toEqual({ tab: "peers", query: { peer: "bob" } });
  expect(parsePlace("#peers/%")).toEqual({ tab: "peers", query: { peer: "%" } });
  expect(parsePlace("#peers/")).toEqual({ tab: "peers", query: {} });
});

test("a zoom survives its link, and nonsense is none", () => {
  const zoom = { from: 1_767_225_600_000, to: 1_767_229_200_000 };
  expect(zoomOf(zoomText(zoom))).toEqual(zoom);
  for (const text of [undefined, "", "5-6", "1767229200000-1767225600000", "x-y"]) expect(zoomOf(text)).toBeNull();
});
