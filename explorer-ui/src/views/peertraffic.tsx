/** What passes from and to a peer: over the chosen time by the minute or longer, and small in the last hour. */

import { amount, count, plural, span } from "../model/format";
import { axisNumbers } from "../model/ticks";
import type { Activity, PeerAggregate, PeerAggregates } from "../model/types";
import type { Zoom } from "../model/url";
import { useAsk } from "../parts/ask";
import { Panel } from "../parts/bits";
import { RateChart, SparkBars } from "../parts/chart";
import { now } from "../state";
import { Legend } from "./rates";

const REFRESH_MS = 10_000;
const POINTS = 180;
const RANGE_MIN_S = 3600;
const CODES_MAX = 5;

type Number_ = "fulfilledIn" | "fulfilledOut" | "rejectedIn" | "rejectedOut";

export function PeerTraffic(props: { peerId: string; asset: { code: string; scale: number } | null; rangeMs: number; zoom: Zoom | null; onZoom: (zoom: Zoom) => void }) {
  const { peerId, asset, zoom } = props;
  const seconds = zoom === null ? Math.max(RANGE_MIN_S, props.rangeMs / 1000) : Math.max(60, Math.ceil((zoom.to - zoom.from) / 1000));
  const { value: found, fault } = useAsk<PeerAggregates>(
    `api/peers/${encodeURIComponent(peerId)}/aggregates`,
    { range: seconds, points: POINTS, to: zoom === null ? null : Math.round(zoom.to) + 60_000 },
    [Math.floor(now.value / REFRESH_MS)],
  );
  const items = found?.items ?? [];
  const per = (...names: Number_[]) =>
    items.map((one) => (one.fulfilledIn === null ? null : names.reduce((sum, name) => sum + (one[name] ?? 0), 0) / Math.max(1, one.seconds)));
  const text = (value: number) => `${count(Math.round(value * 100) / 100)} /s`;
  const to = found === null ? now.value : Date.parse(found.to);
  const from = found === null ? to - seconds * 1000 : Date.parse(found.from);
  return (
    <Panel
      title="Traffic"
      aside={
        <>
          <Legend tone="emerald" text="from it" />
          <Legend tone="sky" text="to it" />
          <Legend tone="rose" text="rejected" />
        </>
      }
    >
      <RateChart
        label={`Packets per second of ${peerId}`}
        from={from}
        to={to}
        first={from}
        stepMs={found?.resolutionMs ?? 60_000}
        stacked
        ticks={axisNumbers}
        onZoom={props.onZoom}
        lines={[
          { key: "in", label: "from it, fulfilled", tone: "emerald", values: per("fulfilledIn"), text },
          { key: "out", label: "to it, fulfilled", tone: "sky", values: per("fulfilledOut"), text },
          { key: "rejected", label: "rejected", tone: "rose", values: per("rejectedIn", "rejectedOut"), text },
        ]}
      />
      <p class="chart-say" data-testid="peer-traffic">
        {fault !== "" ? `It could not be loaded: ${fault}` : <Totals items={items} asset={asset} stepMs={found?.resolutionMs ?? 60_000} />}
      </p>
    </Panel>
  );
}

function Totals(props: { items: readonly PeerAggregate[]; asset: { code: string; scale: number } | null; stepMs: number }) {
  const { items, asset } = props;
  const byCode = new Map<string, number>();
  for (const item of items) for (const { code, count: n } of item.codes) byCode.set(code, (byCode.get(code) ?? 0) + n);
  const codes = [...byCode].sort((a, b) => b[1] - a[1]).slice(0, CODES_MAX);
  const packets = (read: (one: PeerAggregate) => number | null) => items.reduce((sum, one) => sum + (read(one) ?? 0), 0);
  const money = (read: (one: PeerAggregate) => string | null) => {
    const sum = items.reduce((all, one) => all + BigInt(read(one) ?? "0"), 0n);
    return asset === null ? "" : `, ${amount(sum, asset.scale)} ${asset.code}`;
  };
  return (
    <>
      In this time {plural(packets((one) => one.fulfilledIn), "packet")} from it{money((one) => one.amountIn)};{" "}
      {plural(packets((one) => one.fulfilledOut), "packet")} to it{money((one) => one.amountOut)};{" "}
      {count(packets((one) => (one.rejectedIn ?? 0) + (one.rejectedOut ?? 0)))} rejected
      {codes.length > 0 && `, of its own ${codes.map(([code, n]) => `${code} ${count(n)}`).join(", ")}`}. Averages of {span(props.stepMs / 1000)}.
    </>
  );
}

/** Packets of all peers in the last hour, by peer. */
export function useActivity(): ReadonlyMap<string, readonly (number | null)[]> {
  const { value } = useAsk<Activity>("api/activity", {}, [Math.floor(now.value / REFRESH_MS)]);
  return new Map((value?.items ?? []).map((one) => [one.peerId, one.packets]));
}

export function HourSpark(props: { values: readonly (number | null)[] | undefined }) {
  const { values } = props;
  if (values === undefined) return <span class="muted">–</span>;
  const whole = values.reduce<number>((sum, one) => sum + (one ?? 0), 0);
  return (
    <span class="hour" title={`${plural(whole, "packet")} in the last hour, by the minute`} data-packets={whole}>
      {whole === 0 ? <span class="muted">none</span> : <SparkBars tone="sky" values={values} />}
    </span>
  );
}
