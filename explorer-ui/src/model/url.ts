/** The state that a link can carry: `#packets?peer=bob&state=rejected`. */

export const TABS = ["dashboard", "packets", "accounts", "peers", "keys"] as const;
export type Tab = (typeof TABS)[number];

export interface Place {
  readonly tab: Tab;
  readonly query: Readonly<Record<string, string>>;
}

export function isTab(text: string): text is Tab {
  return (TABS as readonly string[]).includes(text);
}

export function parsePlace(hash: string): Place {
  const [name = "", search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const query: Record<string, string> = {};
  for (const [key, value] of new URLSearchParams(search)) {
    if (value !== "") query[key] = value;
  }
  return { tab: isTab(name) ? name : "dashboard", query };
}

export function formatPlace(place: Place): string {
  const search = new URLSearchParams(
    Object.entries(place.query).filter(([, value]) => value !== ""),
  ).toString();
  return `#${place.tab}${search === "" ? "" : `?${search}`}`;
}

/** The same tab with some of its values changed; an empty value removes one. */
export function withQuery(place: Place, change: Readonly<Record<string, string>>): Place {
  const query = { ...place.query, ...change };
  for (const key of Object.keys(query)) if (query[key] === "") delete query[key];
  return { tab: place.tab, query };
}
