/** What happened with a peer: its link, settlements, routes, what operators did. From the event store, and live. */

import { amount, clock, dateClock } from "../model/format";
import type { Page, SettlementEvent, WireEvent } from "../model/types";
import { useAsk } from "../parts/ask";
import { Chip, Panel } from "../parts/bits";
import type { Mark } from "../parts/chart";
import { store } from "../state";
import { detail, toneOf } from "./happened";

const TYPES = [
  "PEER_CONNECTED", "PEER_DISCONNECTED", "SETTLEMENT_TRIGGERED", "SETTLEMENT_STARTED", "SETTLEMENT_COMPLETED", "SETTLEMENT_FAILED",
  "SETTLEMENT_WAITING", "NEXT_HOP_SHORT", "ROUTING_LOOP", "ROUTE_ADDED", "ROUTE_REMOVED",
].join(); // prettier-ignore
const EVENTS_MAX = 200;
const SHOWN_MAX = 14;

export interface Happening {
  readonly items: readonly WireEvent[];
  readonly fault: string;
}

function isOf(event: WireEvent, peerId: string): boolean {
  const one = event as unknown as Record<string, unknown>;
  return one["peerId"] === peerId || one["nextHop"] === peerId || (event.type === "ADMIN_ACTION" && String(one["target"]).split(" ")[0] === peerId);
}

/** Newest first. */
export function useHappened(peerId: string): Happening {
  // Asked again when something of it came in.
  const newest = store.incidents.value.find(({ event }) => isOf(event, peerId))?.seq ?? 0;
  const own = useAsk<Page<WireEvent>>("api/events", { peer: peerId, type: TYPES, limit: EVENTS_MAX }, [newest]);
  const done = useAsk<Page<WireEvent>>("api/events", { type: "ADMIN_ACTION", limit: EVENTS_MAX }, [newest]);
  const items = [...(own.value?.items ?? []), ...(done.value?.items ?? []).filter((event) => isOf(event, peerId))];
  return { items: items.sort((a, b) => b.seq - a.seq).slice(0, EVENTS_MAX), fault: own.fault || done.fault };
}

/** What a chart of its balance marks. */
export function marksOf(events: readonly WireEvent[]): Mark[] {
  const marks: Mark[] = [];
  for (const event of events) {
    const at = Date.parse(event.timestamp);
    if (event.type === "PEER_CONNECTED") marks.push({ at, kind: "up", text: "connected" });
    else if (event.type === "PEER_DISCONNECTED") marks.push({ at, kind: "down", text: "disconnected" });
    else if (event.type === "SETTLEMENT_STARTED" || event.type === "SETTLEMENT_COMPLETED" || event.type === "SETTLEMENT_FAILED") {
      const one = event as SettlementEvent;
      marks.push({ at, kind: "settlement", text: `settlement ${one.type.slice("SETTLEMENT_".length).toLowerCase()}, ${amount(BigInt(one.amount), one.assetScale)} ${one.assetCode}` });
    }
  }
  return marks;
}

export function PeerHistory(props: { peerId: string; happened: Happening }) {
  const { items, fault } = props.happened;
  const today = new Date().toDateString();
  return (
    <Panel title="History">
      {fault !== "" && (
        <p class="fault pad" role="alert">
          It could not be loaded: {fault}
        </p>
      )}
      {items.length === 0 && fault === "" && <p class="muted pad">Nothing is stored of it.</p>}
      <ul class="log" data-testid="peer-history">
        {items.slice(0, SHOWN_MAX).map((event) => {
          const at = Date.parse(event.timestamp);
          return (
            <li key={event.seq}>
              <span class="num muted" title={event.timestamp}>
                {new Date(at).toDateString() === today ? clock(at) : dateClock(at)}
              </span>{" "}
              <Chip kind={toneOf(event.type)}>{event.type.toLowerCase().replaceAll("_", " ")}</Chip> {without(detail(event as unknown as Record<string, unknown>), props.peerId)}
            </li>
          );
        })}
      </ul>
      {items.length > SHOWN_MAX && <p class="muted pad">and {items.length - SHOWN_MAX} earlier</p>}
    </Panel>
  );
}

/** Whose page this is need not be said again. */
function without(text: string, peerId: string): string {
  return text.startsWith(`${peerId} `) ? text.slice(peerId.length + 1) : text === peerId ? "" : text;
}
