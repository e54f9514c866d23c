/** What happened besides packets, as events tell it. */

import { amount, clock } from "../model/format";
import { Chip, Panel } from "../parts/bits";
import { store } from "../state";

/** Links, settlements, accounting, administration: what happened besides packets. */
export function Happened() {
  const incidents = store.incidents.value;
  if (incidents.length === 0) return null;
  return (
    <Panel title="What happened">
      <ul class="log">
        {incidents.slice(0, 12).map(({ seq, at, event }) => (
          <li key={seq}>
            <span class="num muted">{clock(at)}</span> <Chip kind={toneOf(event.type)}>{event.type.toLowerCase().replaceAll("_", " ")}</Chip>{" "}
            {detail(event as unknown as Record<string, unknown>)}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

export function toneOf(type: string): string {
  if (type === "PEER_DISCONNECTED" || type === "ROUTING_LOOP" || type === "NEXT_HOP_SHORT" || type.endsWith("_FAILED")) return "bad";
  if (type === "PEER_CONNECTED" || type.endsWith("_COMPLETED")) return "ok";
  return type.startsWith("SETTLEMENT") ? "busy" : "quiet";
}

export function detail(event: Record<string, unknown>): string {
  const { peerId, prefix, nextHop, state, action, target, reason, error } = event;
  const parts = [peerId, prefix, nextHop === undefined || prefix === undefined ? "" : `→ ${String(nextHop)}`, state, action, target, reason, error];
  const text = parts.filter((part) => part !== undefined && part !== null && part !== "").join(" ");
  const value =
    typeof event["amount"] === "string" && typeof event["assetScale"] === "number"
      ? ` ${amount(BigInt(event["amount"]), event["assetScale"])} ${String(event["assetCode"])}`
      : "";
  return text + value;
}
