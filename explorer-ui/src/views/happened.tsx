/** What happened besides packets, in a few lines: links, settlements, accounting, administration, warnings. */

import { alertName, alertText } from "../model/alerts";
import { amount, clock, dateClock } from "../model/format";
import type { AlertEvent } from "../model/types";
import { Chip, Panel } from "../parts/bits";
import { goTo, now, store } from "../state";

const SHOWN = 10;

export function Happened() {
  const incidents = store.incidents.value;
  if (incidents.length === 0) return null;
  const today = new Date(now.value).toDateString();
  return (
    <Panel
      title="What happened"
      aside={
        <button
          type="button"
          class="link"
          onClick={() => {
            goTo("log");
          }}
        >
          The whole log
        </button>
      }
    >
      <ul class="log" data-testid="happened">
        {incidents.slice(0, SHOWN).map(({ seq, at, event }) => (
          <li key={seq}>
            <span class="num muted">{new Date(at).toDateString() === today ? clock(at) : dateClock(at)}</span>{" "}
            <Chip kind={toneOf(event.type)}>{event.type.toLowerCase().replaceAll("_", " ")}</Chip>{" "}
            {detail(event as unknown as Record<string, unknown>)}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

export function toneOf(type: string): string {
  if (type === "PEER_DISCONNECTED" || type === "ROUTING_LOOP" || type === "NEXT_HOP_SHORT" || type.endsWith("_FAILED")) return "bad";
  if (type === "ALERT") return "warn";
  if (type === "PEER_CONNECTED" || type.endsWith("_COMPLETED")) return "ok";
  return type.startsWith("SETTLEMENT") ? "busy" : "quiet";
}

export function detail(event: Record<string, unknown>): string {
  const { peerId, prefix, nextHop, state, action, target, reason, error, version } = event;
  if (event["type"] === "ALERT") {
    const alert = event as unknown as AlertEvent;
    return [alert.peerId, alertName(alert.name), alertText(alert)].filter((part) => part !== "").join(" · ");
  }
  const parts = [peerId, prefix, nextHop === undefined || prefix === undefined ? "" : `→ ${String(nextHop)}`, state, action, target, reason, error, version];
  const text = parts.filter((part) => part !== undefined && part !== null && part !== "").join(" ");
  const value =
    typeof event["amount"] === "string" && typeof event["assetScale"] === "number"
      ? ` ${amount(BigInt(event["amount"]), event["assetScale"])} ${String(event["assetCode"])}`
      : "";
  return text + value;
}
