/** Which packets are shown. */

import type { PacketRow, PacketState } from "./packets";

export interface PacketFilter {
  readonly peer: string;
  readonly state: PacketState | "";
  /** A Reject's code, or its beginning: `F02`, `T`. */
  readonly code: string;
  /** Milliseconds back from now; 0: all. */
  readonly span: number;
  /** Moments in ms; 0: open. */
  readonly from: number;
  readonly to: number;
  readonly text: string;
}

export const NO_FILTER: PacketFilter = { peer: "", state: "", code: "", span: 0, from: 0, to: 0, text: "" };

export function isFiltered(filter: PacketFilter): boolean {
  return (
    filter.peer !== "" || filter.state !== "" || filter.code !== "" || filter.text !== "" ||
    filter.span > 0 || filter.from > 0 || filter.to > 0
  ); // prettier-ignore
}

/** A test for rows; `now` in ms. */
export function wanted(filter: PacketFilter, now: number): (row: PacketRow) => boolean {
  const text = filter.text.trim().toLowerCase();
  const since = Math.max(filter.from, filter.span > 0 ? now - filter.span : 0);
  const until = filter.to > 0 ? filter.to : Number.POSITIVE_INFINITY;
  const code = filter.code.toUpperCase();
  return (row) =>
    (filter.state === "" || row.state === filter.state) &&
    (filter.peer === "" || row.peerId === filter.peer || row.nextHop === filter.peer) &&
    (code === "" || row.code.startsWith(code)) &&
    row.at >= since &&
    row.at <= until &&
    (text === "" || matches(row, text));
}

function matches(row: PacketRow, text: string): boolean {
  return (
    row.id.startsWith(text) ||
    row.destination.toLowerCase().includes(text) ||
    row.peerId.includes(text) ||
    (row.nextHop ?? "").includes(text) ||
    row.code.toLowerCase().includes(text) ||
    row.message.toLowerCase().includes(text) ||
    row.amount.toString() === text
  );
}
