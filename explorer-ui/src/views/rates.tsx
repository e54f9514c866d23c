/** Packets and value over time: as the connector counted them, gaps as gaps, the resolution said. */

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { get } from "../model/api";
import { amount, count, span } from "../model/format";
import { bucketOf, points, type RatePoint } from "../model/series";
import { axisAmounts, axisNumbers } from "../model/ticks";
import type { Aggregates } from "../model/types";
import { Panel, Segments, useEvery } from "../parts/bits";
import { RateChart, type RateLine } from "../parts/chart";
import { failed, loadRates, place, ratesFault, setQuery, store } from "../state";

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
const WIDE_MS = 10_000;

interface Wide {
  readonly seconds: number;
  readonly stepMs: number;
  readonly to: number;
  readonly points: readonly RatePoint[];
}

/** Of the ranges that are longer than the page remembers. */
const wide = signal<Wide | null>(null);
const fault = signal("");

async function loadWide(seconds: number): Promise<void> {
  try {
    const found = await get<Aggregates>("api/aggregates", { range: seconds, points: POINTS });
    wide.value = {
      seconds,
      stepMs: found.resolutionMs,
      to: Date.parse(found.to),
      points: found.items.map((item) => {
        const one = bucketOf(item);
        // What is known of a point is averaged over the seconds that are known.
        const whole = Math.max(1, item.seconds);
        return {
          at: one.second * 1000,
          fulfilled: one.known ? one.fulfilled / whole : null,
          rejected: one.known ? one.rejected / whole : null,
          value: (asset) => (one.known ? (one.value.get(asset) ?? 0n) / BigInt(whole) : null),
        };
      }),
    };
    fault.value = "";
  } catch (error) {
    fault.value = failed(error);
  }
}

/** Assets in which value moved, and those of accounts: key, code, scale. */
export function assetsOf(): (readonly [string, string, number])[] {
  const keys = new Set<string>();
  for (const account of store.allAccounts()) keys.add(`${account.code}|${account.scale}`);
  for (const one of store.rates.last(60)) for (const key of one.value.keys()) keys.add(key);
  return [...keys].map((key) => {
    const [code = "", scale = "0"] = key.split("|");
    return [key, code, parseInt(scale, 10)] as const;
  });
}

export function Charts() {
  void store.ratesVersion.value;
  const chosen = WINDOWS.find(([id]) => id === place.value.query["range"]) ?? WINDOWS[1] ?? (["5m", "", 300, 2] as const);
  const [id, , seconds, step] = chosen;
  const [asset, setAsset] = useState("");
  useEvery(() => (step === 0 ? loadWide(seconds) : undefined), WIDE_MS, [id]);
  const far = wide.value;
  let stepMs = step * 1000;
  let shown: readonly RatePoint[];
  let end: number;
  if (step > 0) {
    // Only whole points, on multiples of their width: they do not change once they are drawn.
    const after = store.rates.newest + 1;
    const last = after - (after % step);
    shown = store.rates.newest === 0 ? [] : points(store.rates.window(last - seconds, last - 1), step);
    end = last * 1000;
  } else {
    shown = far?.seconds === seconds ? far.points : [];
    stepMs = far?.seconds === seconds ? far.stepMs : 60_000;
    end = far?.seconds === seconds ? far.to : Date.now();
  }
  const from = end - seconds * 1000;
  const lines: RateLine[] = (["fulfilled", "rejected"] as const).map((state) => ({
    key: state,
    label: state,
    tone: state === "fulfilled" ? "emerald" : "rose",
    values: shown.map((one) => one[state]),
    text: (value) => `${count(Math.round(value * 10) / 10)} /s`,
  }));
  const assets = assetsOf();
  const [key, code, scale] = assets.find(([one]) => one === asset) ?? assets[0] ?? ["", "", 0];
  const values = shown.map((one) => one.value(key));
  // To draw only: texts are made from the whole numbers beside them.
  const drawn = values.map((one) => (one === null ? null : Number(one)));
  const first = shown[0]?.at ?? from;
  const wrong = step === 0 ? fault.value : ratesFault.value;
  const width = span(stepMs / 1000);
  return (
    <div class="two">
      <Panel
        title="Packets per second"
        aside={
          <>
            <span class="legend tone-emerald">
              <span class="swatch" /> fulfilled
            </span>
            <span class="legend tone-rose">
              <span class="swatch" /> rejected
            </span>
            <Segments
              label="Time range"
              options={WINDOWS}
              chosen={id}
              onChoose={(next) => {
                setQuery({ range: next });
              }}
            />
          </>
        }
      >
        <RateChart label={`Packets per second, averages of ${width}`} from={from} to={end} first={first} stepMs={stepMs} lines={lines} stacked ticks={axisNumbers} />
        <p class="chart-say" data-testid="resolution">
          Each point is the average of {width}, as the connector counted; where nothing is known there is a gap.
        </p>
      </Panel>
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
            code !== "" && (
              <span class="legend tone-sky">
                <span class="swatch" /> {code}
              </span>
            )
          )
        }
      >
        <RateChart
          label={`Value per second in ${code}, averages of ${width}`}
          from={from}
          to={end}
          first={first}
          stepMs={stepMs}
          ticks={(high, wanted) => axisAmounts(high, wanted, scale)}
          lines={[
            {
              key: "value",
              label: code,
              tone: "sky",
              values: drawn,
              text: (value) => `${amount(values[drawn.indexOf(value)] ?? 0n, scale)} ${code} /s`,
            },
          ]}
        />
        <p class="chart-say">Of fulfilled packets, in the asset of their sender; settlements are not in it.</p>
      </Panel>
      {wrong !== "" && (
        <p class="chart-note wide-note" role="alert">
          These rates could not be loaded: {wrong}{" "}
          <button type="button" class="link" onClick={() => void (step === 0 ? loadWide(seconds) : loadRates())}>
            Try again
          </button>
        </p>
      )}
    </div>
  );
}
