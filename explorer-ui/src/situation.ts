/** What the page makes of all that it knows: how busy the node is, what needs somebody, and the title. */

import { computed, effect, signal } from "@preact/signals";
import { inbox, type InboxRow, needs } from "./model/inbox";
import type { AlertEvent } from "./model/types";
import type { RateBucket } from "./model/series";
import { accounts, now, settlements, store } from "./state";

/** Links whose two sides book differently; the network panel finds them. */
export const differing = signal<readonly string[]>([]);

/** What is known of the last minute. */
export function lastMinute(): RateBucket[] {
  return store.rates.last(60).filter((one) => one.known);
}

export function total(buckets: readonly RateBucket[], state: "fulfilled" | "rejected"): number {
  return buckets.reduce((sum, one) => sum + one[state], 0);
}

export function success(): number | null {
  const minute = lastMinute();
  const good = total(minute, "fulfilled");
  const bad = total(minute, "rejected");
  return good + bad < 1 ? null : (100 * good) / (good + bad);
}

/** Packets per second over the last five seconds that are over; null: not known yet. */
export function rate(): number | null {
  const recent = store.rates.last(5).filter((one) => one.known);
  return recent.length === 0 ? null : (total(recent, "fulfilled") + total(recent, "rejected")) / recent.length;
}

export const rows = computed<readonly InboxRow[]>(() => {
  void store.ratesVersion.value;
  const status = store.status.value;
  if (status === null) return [];
  return inbox({
    status,
    peers: store.peers.value,
    accounts: accounts.value,
    settlements: settlements.value,
    success: success(),
    differing: differing.value,
    alerts: store.incidents.value.map((one) => one.event).filter((event): event is AlertEvent => event.type === "ALERT"),
    nowMs: now.value + store.skewMs,
  });
});

const COLOURS = { calm: "#34d399", amber: "#fbbf24", rose: "#fb7185", offline: "#7c8da0" } as const;

/** The icon of the tab: the mark of the page, with a dot where something is wrong. */
function icon(level: keyof typeof COLOURS): string {
  const dot = `<circle cx="24" cy="24" r="8" fill="${COLOURS[level]}" stroke="#0a0e13" stroke-width="2"/>`;
  const mark = '<path d="M6 16h20" stroke="#dbe4ee" stroke-width="2"/><circle cx="6" cy="16" r="4.5" fill="#34d399"/><circle cx="16" cy="16" r="3.5" fill="#dbe4ee"/><circle cx="26" cy="16" r="4.5" fill="#fb7185"/>';
  return `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${mark}${level === "calm" ? "" : dot}</svg>`)}`;
}

/** Keeps title and icon true: they are what is seen of a page in a tab that is not looked at. */
export function watchTitle(): void {
  const level = computed(() => {
    if (store.connection.value === "offline") return "offline" as const;
    if (rows.value.some((one) => one.level === "rose")) return "rose" as const;
    return rows.value.length > 0 ? ("amber" as const) : ("calm" as const);
  });
  const title = computed(() => {
    const id = store.status.value?.nodeId;
    const name = id === undefined ? "ILP connector" : `${id} · ILP connector`;
    if (level.value === "offline") return `offline: ${name}`;
    const count = needs(rows.value);
    return count > 0 ? `(${count}) ${name}` : name;
  });
  effect(() => {
    document.title = title.value;
  });
  effect(() => {
    const link = document.querySelector<HTMLLinkElement>('link[rel="icon"]');
    if (link !== null) link.href = icon(level.value);
  });
}
