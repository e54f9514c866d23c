/** Packets, value, latency and rejects over time: as the connector counted them, gaps as gaps, the resolution said. */

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { get } from "../model/api";
import { amount, count, duration, span } from "../model/format";
import { codeLines, pointOf, points, type RatePoint } from "../model/series";
import { axisAmounts, axisNumbers } from "../model/ticks";
import type { Aggregate, Aggregates } from "../model/types";
import { type Zoom, zoomOf, zoomText } from "../model/url";
import { cls, Panel, Segments, useEvery } from "../parts/bits";
import { RateChart, type RateLine } from "../parts/chart";
import { Unzoom } from "../parts/frame";
import { accounts, failed, loadRates, place, ratesFault, setQuery, store } from "../state";

const WINDOWS: readonly (readonly [string, string, number, number])[] = [
  // id, label, seconds, seconds of a point
  ["1m", "1 min", 60, 1],
  ["5m", "5 min", 300, 2],
  ["15m", "15 min", 900, 5],
  ["1h", "1 h", 3600, 0],
  ["24h", "24 h", 86_400, 0],
  ["7d", "7 d", 604_800, 0],
];
const POINTS = 180;
const NEAR_MS = 2000;
const FAR_MS = 10_000;
const CODES_MAX = 5;
const CODE_TONES = ["rose", "amber", "violet", "sky", "emerald", "muted"] as const;

/** What the connector tells of a time; the newest seconds of packets and value come by themselves. */
interface Told {
  readonly key: string;
  readonly stepMs: number;
  readonly from: number;
  readonly to: number;
  readonly items: readonly Aggregate[];
}

const told = signal<Told | null>(null);
const fault = signal("");

async function load(key: string, seconds: number, points: number, zoom: Zoom | null): Promise<void> {
  try {
    const found = await get<Aggregates>("api/aggregates", { range: seconds, points, to: zoom === null ? null : Math.round(zoom.to) });
    told.value = { key, stepMs: found.resolutionMs, from: Date.parse(found.from), to: Date.parse(found.to), items: found.items };
    fault.value = "";
  } catch (error) {
    fault.value = failed(error);
  }
}

/** Assets in which value moved, and those of accounts: key, code, scale. */
export function assetsOf(): (readonly [string, string, number])[] {
  const keys = new Set<string>();
  for (const account of accounts.value) keys.add(`${account.code}|${account.scale}`);
  for (const one of store.rates.last(60)) for (const key of one.value.keys()) keys.add(key);
  return [...keys].map((key) => {
    const [code = "", scale = "0"] = key.split("|");
    return [key, code, parseInt(scale, 10)] as const;
  });
}

export function Charts() {
  void store.ratesVersion.value;
  const { query } = place.value;
  const [id, , range, step] = WINDOWS.find(([one]) => one === query["range"]) ?? WINDOWS[1] ?? (["5m", "", 300, 2] as const);
  const zoom = zoomOf(query["zoom"]);
  const key = zoom === null ? id : zoomText(zoom);
  const seconds = zoom === null ? range : Math.max(1, Math.ceil((zoom.to - zoom.from) / 1000));
  const wanted = zoom === null && step > 0 ? range / step : POINTS;
  const ask = () => load(key, seconds, wanted, zoom);
  useEvery(ask, zoom === null && step > 0 ? NEAR_MS : FAR_MS, [key]);
  const far = told.value?.key === key ? told.value : null;
  // Only whole points, on multiples of their width: they do not change once they are drawn.
  const live = zoom === null && step > 0;
  const after = store.rates.newest + 1;
  const last = after - (after % Math.max(1, step));
  const shown: readonly RatePoint[] = live
    ? store.rates.newest === 0
      ? []
      : points(store.rates.window(last - range, last - 1), step)
    : (far?.items ?? []).map(pointOf);
  const stepMs = live ? step * 1000 : (far?.stepMs ?? 60_000);
  const to = live ? last * 1000 : (far?.to ?? zoom?.to ?? Date.now());
  const from = live ? to - range * 1000 : (far?.from ?? zoom?.from ?? to - range * 1000);
  const frame = {
    from,
    to,
    stepMs,
    first: shown[0]?.at ?? from,
    onZoom: (next: Zoom) => {
      setQuery({ zoom: zoomText(next) });
    },
  };
  const wrong = live ? ratesFault.value || fault.value : fault.value;
  const width = span(stepMs / 1000);
  const lines: RateLine[] = (["fulfilled", "rejected"] as const).map((state) => ({
    key: state,
    label: state,
    tone: state === "fulfilled" ? "emerald" : "rose",
    values: shown.map((one) => one[state]),
    text: perSecond,
  }));
  return (
    <div class="two charts">
      <Panel
        title="Packets per second"
        aside={
          <>
            <Legend tone="emerald" text="fulfilled" />
            <Legend tone="rose" text="rejected" />
            <Unzoom
              zoomed={zoom !== null}
              onReset={() => {
                setQuery({ zoom: "" });
              }}
            />
            <Segments
              label="Time range"
              options={WINDOWS}
              chosen={zoom === null ? id : ""}
              onChoose={(next) => {
                setQuery({ range: next, zoom: "" });
              }}
            />
          </>
        }
      >
        <RateChart {...frame} label={`Packets per second, averages of ${width}`} lines={lines} stacked ticks={axisNumbers} />
        <p class="chart-say" data-testid="resolution">
          Each point is the average of {width}, as the connector counted; where nothing is known there is a gap.
        </p>
      </Panel>
      <ValueChart frame={frame} shown={shown} width={width} />
      <LatencyChart far={far} onZoom={frame.onZoom} />
      <RejectChart far={far} onZoom={frame.onZoom} />
      {wrong !== "" && (
        <p class="chart-note wide-note" role="alert">
          These rates could not be loaded: {wrong}{" "}
          <button type="button" class="link" onClick={() => void (live ? loadRates() : ask())}>
            Try again
          </button>
        </p>
      )}
    </div>
  );
}

function perSecond(value: number): string {
  return `${count(Math.round(value * 10) / 10)} /s`;
}

export function Legend(props: { tone: string; text: string }) {
  return (
    <span class={cls("legend", `tone-${props.tone}`)}>
      <span class="swatch" /> {props.text}
    </span>
  );
}

interface FrameOf {
  readonly from: number;
  readonly to: number;
  readonly stepMs: number;
  readonly first: number;
  readonly onZoom: (zoom: Zoom) => void;
}

function ValueChart(props: { frame: FrameOf; shown: readonly RatePoint[]; width: string }) {
  const [asset, setAsset] = useState("");
  const assets = assetsOf();
  const [key, code, scale] = assets.find(([one]) => one === asset) ?? assets[0] ?? ["", "", 0];
  const values = props.shown.map((one) => one.value(key));
  // To draw only: texts are made from the whole numbers beside them.
  const drawn = values.map((one) => (one === null ? null : Number(one)));
  return (
    <Panel
      title="Value per second"
      aside={
        assets.length > 1 ? (
          <select
            class="input small"
            aria-label="Asset"
            value={key}
            onChange={(event) => {
              setAsset(event.currentTarget.value);
            }}
          >
            {assets.map(([one, name, scale_]) => (
              <option key={one} value={one}>
                {name} {assets.some(([other, same]) => same === name && other !== one) ? `scale ${scale_}` : ""}
              </option>
            ))}
          </select>
        ) : (
          code !== "" && <Legend tone="sky" text={code} />
        )
      }
    >
      <RateChart
        {...props.frame}
        label={`Value per second in ${code}, averages of ${props.width}`}
        ticks={(high, wanted) => axisAmounts(high, wanted, scale)}
        lines={[
          { key: "value", label: code, tone: "sky", values: drawn, text: (value) => `${amount(values[drawn.indexOf(value)] ?? 0n, scale)} ${code} /s` },
        ]}
      />
      <p class="chart-say">Of fulfilled packets, in the asset of their sender; settlements are not in it.</p>
    </Panel>
  );
}

function frameOf(far: Told | null, onZoom: (zoom: Zoom) => void): FrameOf {
  const to = far?.to ?? Date.now();
  return { from: far?.from ?? to - 300_000, to, stepMs: far?.stepMs ?? 60_000, first: far?.from ?? to, onZoom };
}

function LatencyChart(props: { far: Told | null; onZoom: (zoom: Zoom) => void }) {
  const items = props.far?.items ?? [];
  return (
    <Panel
      title="Latency over time"
      aside={
        <>
          <Legend tone="sky" text="median" />
          <Legend tone="violet" text="99 %" />
        </>
      }
    >
      <RateChart
        {...frameOf(props.far, props.onZoom)}
        label="Time to the answer, in ms"
        ticks={axisNumbers}
        lines={[
          { key: "p50", label: "median", tone: "sky", values: items.map((one) => one.latencyP50Ms ?? null), text: duration },
          { key: "p99", label: "99 % within", tone: "violet", values: items.map((one) => one.latencyP99Ms ?? null), text: duration },
        ]}
      />
      <p class="chart-say">Milliseconds from a packet to its answer, estimated from a histogram; no packets, no point.</p>
    </Panel>
  );
}

function RejectChart(props: { far: Told | null; onZoom: (zoom: Zoom) => void }) {
  const items = props.far?.items ?? [];
  const found = codeLines(items, CODES_MAX);
  const name = (code: string) => (code === "" ? "others" : code);
  // Nothing at all still has its zero line, and its gaps.
  const none = items.map((one) => (one.fulfilled === null ? null : 0));
  return (
    <Panel
      title="Rejects by code"
      aside={found.map((one, index) => (
        <Legend key={one.code} tone={CODE_TONES[index] ?? "muted"} text={`${name(one.code)} ${count(one.total)}`} />
      ))}
    >
      <RateChart
        {...frameOf(props.far, props.onZoom)}
        label={found.length === 0 ? "No rejects in this time" : `Rejects per second: ${found.map((one) => `${name(one.code)} ${count(one.total)}`).join(", ")}`}
        ticks={axisNumbers}
        stacked
        lines={
          found.length === 0
            ? [{ key: "none", label: "rejects", tone: "muted", values: none, text: perSecond }]
            : found.map((one, index) => ({ key: one.code || "others", label: name(one.code), tone: CODE_TONES[index] ?? "muted", values: one.values, text: perSecond }))
        }
      />
      <p class="chart-say" data-testid="rejects-said">
        {found.length === 0 ? "No packet was rejected in this time." : "Per second, of all packets that were rejected here or further on."}
      </p>
    </Panel>
  );
}
