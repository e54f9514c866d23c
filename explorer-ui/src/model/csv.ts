/** Comma-separated values (RFC 4180), as spreadsheets read them. */

import { exact } from "./format";
import type { PacketFulfilled, PacketRejected, SettlementItem } from "./types";

/** What a spreadsheet would take for a formula: texts of peers must not become one. */
const FORMULA = /^[=+\-@\t\r]/;

function cell(value: string | number | null): string {
  if (value === null) return "";
  const text = typeof value === "string" && FORMULA.test(value) ? `\'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(head: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string {
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

type AssetOf = (peerId: string) => { readonly code: string; readonly scale: number } | null;

export const PACKET_COLUMNS = [
  "time", "packet_id", "from", "next_hop", "destination", "amount", "asset", "units", "result", "code", "message", "triggered_by", "duration_ms",
]; // prettier-ignore

/** One answer, in the asset of its sender; where that is not known only in units. */
export function packetCells(event: PacketFulfilled | PacketRejected, assetOf: AssetOf): (string | number | null)[] {
  const asset = assetOf(event.peerId);
  const rejected = event.type === "PACKET_REJECTED" ? event : null;
  return [
    event.timestamp, event.packetId, event.peerId, event.nextHop, event.destination,
    asset === null ? null : exact(BigInt(event.amount), asset.scale).replaceAll(",", ""), asset?.code ?? null, event.amount,
    rejected === null ? "fulfilled" : "rejected", rejected?.code ?? null, rejected?.message ?? null, rejected?.triggeredBy ?? null, event.durationMs,
  ]; // prettier-ignore
}

export const SETTLEMENT_COLUMNS = [
  "created", "changed", "settlement_id", "peer", "direction", "amount", "asset", "units", "phase", "payer", "attempts", "error",
]; // prettier-ignore

export function settlementCells(one: SettlementItem): (string | number | null)[] {
  return [
    new Date(one.createdMs).toISOString(), new Date(one.changedMs).toISOString(), one.settlementId, one.peerId, one.direction,
    exact(BigInt(one.amount), one.assetScale).replaceAll(",", ""), one.assetCode, one.amount, one.phase, one.payer, one.attempts, one.error,
  ]; // prettier-ignore
}
