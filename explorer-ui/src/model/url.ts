/** The state that a link can carry: `#packets?peer=bob&state=rejected`; a peer has a page of its own, `#peers/bob`. */

export const TABS = ["dashboard", "packets", "accounts", "peers", "keys", "log"] as const;
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
  const [tab = "", ...rest] = name.split("/");
  const peer = tab === "peers" ? decoded(rest.join("/")) : "";
  if (peer !== "") query["peer"] = peer;
  return { tab: isTab(tab) ? tab : "dashboard", query };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function formatPlace(place: Place): string {
  const { peer = "", ...others } = place.query;
  const own = place.tab === "peers" && peer !== "";
  const search = new URLSearchParams(
    Object.entries(own ? others : place.query).filter(([, value]) => value !== ""),
  ).toString();
  return `#${place.tab}${own ? `/${encodeURIComponent(peer)}` : ""}${search === "" ? "" : `?${search}`}`;
}

/** The same tab with some of its values changed; an empty value removes one. */
export function withQuery(place: Place, change: Readonly<Record<string, string>>): Place {
  const query = { ...place.query, ...change };
  for (const key of Object.keys(query)) if (query[key] === "") delete query[key];
  return { tab: place.tab, query };
}

export interface Zoom {
  /** ms */
  readonly from: number;
  readonly to: number;
}

/** A part of time that a chart is zoomed to, `1767225600000-1767229200000`; null: none. */
export function zoomOf(text: string | undefined): Zoom | null {
  const found = /^(\d{10,15})-(\d{10,15})$/.exec(text ?? "");
  const [from, to] = [Number(found?.[1]), Number(found?.[2])];
  return from < to ? { from, to } : null;
}

export function zoomText(zoom: Zoom): string {
  return `${Math.round(zoom.from)}-${Math.round(zoom.to)}`;
}
