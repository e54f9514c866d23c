/** A list as a file of comma-separated values, collected from the connector. */

import { useState } from "preact/hooks";
import { get } from "../model/api";
import { csv, PACKET_COLUMNS, packetCells, SETTLEMENT_COLUMNS, settlementCells } from "../model/csv";
import { count } from "../model/format";
import type { Page, PacketFulfilled, PacketRejected, SettlementItem, WireEvent } from "../model/types";
import { failed, store } from "../state";

const PACKETS_MAX = 20_000;
const PAGE = 1000;

type Rows = (string | number | null)[][];

/** What was collected; `cut`: there is more. */
interface Collected {
  readonly head: readonly string[];
  readonly rows: Rows;
  readonly cut: boolean;
}

export async function packetsOf(peerId: string, onCount: (rows: number) => void): Promise<Collected> {
  const rows: Rows = [];
  let cursor: string | number | null = null;
  do {
    const page: Page<WireEvent> = await get<Page<WireEvent>>("api/events", { peer: peerId, type: "PACKET_FULFILLED,PACKET_REJECTED", limit: PAGE, cursor });
    for (const event of page.items) rows.push(packetCells(event as PacketFulfilled | PacketRejected, (id) => store.assetOf(id)));
    cursor = page.next;
    onCount(rows.length);
  } while (cursor !== null && rows.length < PACKETS_MAX);
  return { head: PACKET_COLUMNS, rows, cut: cursor !== null };
}

export async function settlementsOf(peerId: string): Promise<Collected> {
  const page = await get<Page<SettlementItem>>("api/settlements", { peer: peerId, limit: PAGE });
  return { head: SETTLEMENT_COLUMNS, rows: page.items.map(settlementCells), cut: page.items.length >= PAGE };
}

function save(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // When the browser has taken it.
  window.setTimeout(() => {
    URL.revokeObjectURL(url);
  }, 10_000);
}

export function Export(props: { name: string; label: string; collect: (onCount: (rows: number) => void) => Promise<Collected> }) {
  const [said, setSaid] = useState("");
  const [busy, setBusy] = useState(false);
  const begin = async () => {
    setBusy(true);
    setSaid("");
    try {
      const { head, rows, cut } = await props.collect((found) => {
        setSaid(`${count(found)} …`);
      });
      save(`${props.name}.csv`, csv(head, rows));
      setSaid(cut ? `the newest ${count(rows.length)}; there are more` : `${count(rows.length)} saved`);
    } catch (error) {
      setSaid(failed(error));
    }
    setBusy(false);
  };
  return (
    <>
      {said !== "" && (
        <span class="muted" role="status">
          {said}
        </span>
      )}
      <button type="button" class="button small" disabled={busy} aria-label={props.label} onClick={() => void begin()}>
        CSV
      </button>
    </>
  );
}
