/** Warnings of the node's log, as people read them. */

import type { AlertEvent } from "./types";

/** So long an alert stands among what needs somebody. */
const SHOWN_MS = 3_600_000;

/** Those that another row says better, or that need nobody. */
const SAID_ELSEWHERE: ReadonlySet<string> = new Set([
  "btp_dial_failed", "ilp_http_not_reached", "no_peers", "ledger_in_memory", "setting_without_effect", "settlement_cancelled",
  "settlement_declined", "settlement_postponed", "settlement_refused", "settlement_waits_for_operator", "standby_again", "standby_instead",
]); // prettier-ignore

/** What strangers cause as they like: it stands in the log, and would keep the page amber for ever. */
const OF_STRANGERS: ReadonlySet<string> = new Set([
  "btp_authentication_failed", "btp_connection_refused", "http_authentication_failed", "ilp_http_request_refused",
]); // prettier-ignore

/** `posts_not_durable` as "posts not durable". */
export function alertName(name: string): string {
  return name.replaceAll("_", " ");
}

/** The fields of its detail with their values; one field without a name where it was cut short. */
export function alertFields(detail: string): (readonly [string, string])[] {
  if (detail === "") return [];
  try {
    const found: unknown = JSON.parse(detail);
    if (typeof found === "object" && found !== null && !Array.isArray(found)) {
      return Object.entries(found).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)] as const);
    }
  } catch {
    // It was longer than an event may be.
  }
  return [["", detail]];
}

/** All of it in one line. */
export function alertText(alert: AlertEvent): string {
  const fields = alertFields(alert.detail).map(([key, value]) => (key === "" || key === "detail" || key === "reason" ? value : `${key} ${value}`));
  const more = alert.suppressed > 0 ? [`${alert.suppressed} more before`] : [];
  return [...fields, ...more].join(" · ");
}

/** The newest of each name and peer that needs somebody. */
export function pressing(alerts: readonly AlertEvent[], nowMs: number): AlertEvent[] {
  const found = new Map<string, AlertEvent>();
  for (const alert of alerts) {
    if (SAID_ELSEWHERE.has(alert.name) || OF_STRANGERS.has(alert.name) || nowMs - Date.parse(alert.timestamp) > SHOWN_MS) continue;
    const key = `${alert.name} ${alert.peerId}`;
    const known = found.get(key);
    if (known === undefined || known.seq < alert.seq) found.set(key, alert);
  }
  return [...found.values()].sort((a, b) => b.seq - a.seq);
}
