/** What is known of each packet: events in, rows out. A row grows as more of its events come. */

import { units } from "./format";
import type { PacketEvent } from "./types";

export type PacketState = "in flight" | "fulfilled" | "rejected";

export interface PacketRow {
  readonly id: string;
  /** When it was received, ms since the epoch. */
  at: number;
  peerId: string;
  nextHop: string | null;
  destination: string;
  amount: bigint;
  /** As sent on; null while that is not known. */
  amountOut: bigint | null;
  state: PacketState;
  durationMs: number | null;
  code: string;
  message: string;
  triggeredBy: string;
}

export function isPacketEvent(event: { readonly type: string }): event is PacketEvent {
  return (
    event.type === "PACKET_RECEIVED" ||
    event.type === "PACKET_FORWARDED" ||
    event.type === "PACKET_FULFILLED" ||
    event.type === "PACKET_REJECTED"
  );
}

/** The newest packets, bounded. */
export class PacketLog {
  private readonly known = new Map<string, PacketRow>();
  /** Oldest first, as they came in. */
  private live: PacketRow[] = [];
  /** Newest first: pages from the event store, each older than the one before it. */
  private past: PacketRow[] = [];

  constructor(
    private readonly liveMax = 5000,
    private readonly pastMax = 20_000,
  ) {}

  get size(): number {
    return this.live.length + this.past.length;
  }

  get pastIsFull(): boolean {
    return this.past.length >= this.pastMax;
  }

  get(id: string): PacketRow | undefined {
    return this.known.get(id);
  }

  clear(): void {
    this.known.clear();
    this.live = [];
    this.past = [];
  }

  dropPast(): void {
    for (const row of this.past) this.known.delete(row.id);
    this.past = [];
  }

  /** An event of the feed. */
  apply(event: PacketEvent): PacketRow {
    const known = this.known.get(event.packetId);
    const row = known ?? fresh(event);
    fill(row, event);
    if (known === undefined) {
      this.known.set(row.id, row);
      this.live.push(row);
      // In slices: shifting thousands of rows for each packet would cost more than the packet.
      if (this.live.length > this.liveMax * 1.2) {
        for (const old of this.live.splice(0, this.live.length - this.liveMax)) this.known.delete(old.id);
      }
    }
    return row;
  }

  /** Answers from the event store, newest first. Gives how many packets were new. */
  addPast(events: readonly PacketEvent[]): number {
    let added = 0;
    for (const event of events) {
      const known = this.known.get(event.packetId);
      if (known !== undefined) {
        fill(known, event);
        continue;
      }
      if (this.pastIsFull) break;
      const row = fresh(event);
      fill(row, event);
      this.known.set(row.id, row);
      this.past.push(row);
      added += 1;
    }
    return added;
  }

  /** Newest first, those that `wanted` lets through, at most `max`. */
  rows(wanted: (row: PacketRow) => boolean, max = Number.POSITIVE_INFINITY): PacketRow[] {
    const found: PacketRow[] = [];
    for (let index = this.live.length - 1; index >= 0 && found.length < max; index--) {
      const row = this.live[index];
      if (row !== undefined && wanted(row)) found.push(row);
    }
    for (const row of this.past) {
      if (found.length >= max) break;
      if (wanted(row)) found.push(row);
    }
    return found;
  }
}

function fresh(event: PacketEvent): PacketRow {
  return {
    id: event.packetId,
    at: Date.parse(event.timestamp),
    peerId: event.peerId,
    nextHop: null,
    destination: event.destination,
    amount: units(event.amount),
    amountOut: null,
    state: "in flight",
    durationMs: null,
    code: "",
    message: "",
    triggeredBy: "",
  };
}

function fill(row: PacketRow, event: PacketEvent): void {
  switch (event.type) {
    case "PACKET_RECEIVED":
      row.amount = units(event.amount);
      row.at = Date.parse(event.timestamp);
      break;
    case "PACKET_FORWARDED":
      row.nextHop = event.nextHop;
      row.amountOut = units(event.amount);
      break;
    case "PACKET_FULFILLED":
      row.state = "fulfilled";
      row.nextHop = event.nextHop;
      row.amount = units(event.amount);
      close(row, event.timestamp, event.durationMs);
      break;
    case "PACKET_REJECTED":
      row.state = "rejected";
      row.nextHop = event.nextHop ?? row.nextHop;
      row.amount = units(event.amount);
      row.code = event.code;
      row.message = event.message;
      row.triggeredBy = event.triggeredBy;
      close(row, event.timestamp, event.durationMs);
      break;
  }
}

function close(row: PacketRow, timestamp: string, durationMs: number): void {
  // A row that began with its answer was received that much earlier.
  if (row.durationMs === null) row.at = Math.min(row.at, Date.parse(timestamp) - Math.round(durationMs));
  row.durationMs = durationMs;
}
