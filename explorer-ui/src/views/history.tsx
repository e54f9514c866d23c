/** A balance over time: what is stored, and what has come since this page was opened. */

import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import type { Account } from "../model/accounts";
import { get } from "../model/api";
import { joined, type LevelLine } from "../model/points";
import type { History, HistoryItem } from "../model/types";
import { type Zoom, zoomText } from "../model/url";
import { useThrottled } from "../parts/bits";
import { BalanceChart, type Mark } from "../parts/chart";
import { failed, now, store } from "../state";

/** What was loaded, by account and range: going to another tab and back does not ask again. */
const histories = new Map<string, ReturnType<typeof historyOf>>();
const HISTORIES_MAX = 500;
/** The line of a chart is drawn anew at most so often. */
const DRAWN_MS = 400;

function historyOf() {
  return { items: signal<readonly HistoryItem[]>([]), error: signal(""), loadedAt: 0, busy: false };
}

async function load(peerId: string, from: number, to: number | null, into: ReturnType<typeof historyOf>): Promise<void> {
  if (into.busy) return;
  into.busy = true;
  try {
    const answer = await get<History>(`api/accounts/${encodeURIComponent(peerId)}/history`, { from: Math.round(from), to, points: 400 });
    into.items.value = answer.items;
    into.error.value = "";
    into.loadedAt = Date.now();
  } catch (error) {
    into.error.value = failed(error);
  }
  into.busy = false;
}

export function HistoryChart(props: {
  account: Account;
  rangeMs: number;
  zoom?: Zoom | null;
  levels?: readonly LevelLine[];
  marks?: readonly Mark[];
  onZoom?: (zoom: Zoom) => void;
}) {
  const { account, rangeMs, zoom = null } = props;
  const key = `${account.key}|${zoom === null ? rangeMs : zoomText(zoom)}`;
  let known = histories.get(key);
  if (known === undefined) {
    if (histories.size >= HISTORIES_MAX) histories.clear();
    known = historyOf();
    histories.set(key, known);
  }
  const history = known;
  const gaps = store.gaps.value;
  useEffect(() => {
    const stale = Date.now() - history.loadedAt > (zoom === null ? Math.min(60_000, rangeMs / 20) : 60_000);
    if (stale || gaps > 0) void load(account.peerId, zoom?.from ?? Date.now() - rangeMs, zoom === null ? null : Math.round(zoom.to), history);
  }, [key, gaps]);
  // Up to the newest balance, also between two steps of the clock; drawn anew a few times a second at most.
  const live = store.livePoints(account.key);
  const drawn = useThrottled(live[live.length - 1]?.at ?? 0, DRAWN_MS);
  const points = useMemo(() => joined(history.items.value, live), [history.items.value, drawn, key]);
  const to = zoom?.to ?? Math.max(now.value, points[points.length - 1]?.at ?? 0);
  return (
    <>
      <BalanceChart
        peerId={account.peerId}
        asset={{ code: account.code, scale: account.scale }}
        points={points}
        from={zoom?.from ?? to - rangeMs}
        to={to}
        {...(props.levels ? { levels: props.levels } : {})}
        {...(props.marks ? { marks: props.marks } : {})}
        {...(props.onZoom ? { onZoom: props.onZoom } : {})}
      />
      {history.error.value !== "" && (
        <p class="chart-note" role="alert">
          History could not be loaded: {history.error.value} Shown since this page was opened.
        </p>
      )}
    </>
  );
}
