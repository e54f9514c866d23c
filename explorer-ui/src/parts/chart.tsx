/** Charts in SVG: rates over time, and balances over time. */

import { scaleLinear } from "d3-scale";
import { area, curveMonotoneX, curveStepAfter, line } from "d3-shape";
import { useId } from "preact/hooks";
import { amount, type Asset, clock, compact, count, dateClock, exactTitle, owes } from "../model/format";
import { extent, type LevelLine, pointAt, visible, withLevels } from "../model/points";
import type { BalancePoint } from "../model/store";
import { amountTicks, type Tick } from "../model/ticks";
import type { Zoom } from "../model/url";
import { cls } from "./bits";
import { em, Frame } from "./frame";

// --- rates

export interface RateLine {
  readonly key: string;
  readonly label: string;
  readonly tone: string;
  /** Null: not known, a gap. */
  readonly values: readonly (number | null)[];
  readonly text?: (value: number) => string;
}

/** Points between two gaps, which are no line. */
function alone(values: readonly (number | null)[]): number[] {
  return values.flatMap((value, at) => (value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null ? [at] : []));
}

/** A longer time is told with its date. */
const DATED_MS = 12 * 3_600_000;

/** Lines of numbers, one value a step; filled down to zero. Where they stack, the first is lowest. */
export function RateChart(props: {
  label: string;
  from: number;
  to: number;
  stepMs: number;
  /** When the first point begins. */
  first: number;
  lines: readonly RateLine[];
  stacked?: boolean;
  ticks: (high: number, wanted: number) => readonly Tick[];
  onZoom?: (zoom: Zoom) => void;
}) {
  const id = useId();
  const { from, to, stepMs, first } = props;
  const length = props.lines[0]?.values.length ?? 0;
  // What never happened is not drawn: on top of another line it would only hide that.
  const lines = props.lines.filter((one, index) => index === 0 || one.values.some((value) => (value ?? 0) > 0));
  const tops: (number | null)[][] = [];
  for (const [index, one] of lines.entries()) {
    tops.push(one.values.map((value, at) => (value === null ? null : value + (props.stacked ? (tops[index - 1]?.[at] ?? 0) : 0))));
  }
  const highest = Math.max(0, ...tops.flat().map((value) => value ?? 0));
  const high = highest > 0 ? highest * 1.08 : 1;
  return (
    <Frame
      label={props.label}
      onZoom={props.onZoom}
      from={from}
      to={to}
      yTicks={(height) => {
        const y = scaleLinear([0, high], [height, 0]);
        if (highest === 0) return [{ y: height, label: "0", zero: true }];
        const wanted = Math.max(2, Math.floor(height / (em() * 3.2)));
        return props.ticks(high, wanted).map(({ value, label }) => ({ y: y(value), label, zero: value === 0 }));
      }}
      plot={({ width, height, x }) => {
        const y = scaleLinear([0, high], [height, 0]);
        const xAt = (index: number) => Math.min(width, x(first + (index + 0.5) * stepMs));
        return lines
          .map((one, index) => {
            const own = tops[index] ?? [];
            const below = props.stacked ? (tops[index - 1] ?? null) : null;
            const fill = area<number | null>()
              .defined((value) => value !== null)
              .curve(curveMonotoneX)
              .x((_, at) => xAt(at))
              .y0((_, at) => y(below?.[at] ?? 0))
              .y1((value) => y(value ?? 0));
            const stroke = line<number | null>()
              .defined((value) => value !== null)
              .curve(curveMonotoneX)
              .x((_, at) => xAt(at))
              .y((value) => y(value ?? 0));
            const gradient = `${id}-${one.key}`;
            return (
              <g key={one.key} class={`tone-${one.tone}`}>
                <linearGradient id={gradient} x1="0" y1="0" x2="0" y2="1">
                  <stop offset="0" class="stop-strong" />
                  <stop offset="1" class="stop-faint" />
                </linearGradient>
                <path class="area" d={fill(own) ?? ""} fill={`url(#${gradient})`} />
                <path class="stroke" d={stroke(own) ?? ""} />
                <path class="dots" d={alone(own).map((at) => `M${xAt(at).toFixed(1)} ${y(own[at] ?? 0).toFixed(1)}h0`).join("")} />
              </g>
            );
          })
          .reverse();
      }}
      tip={(at, { x, height }) => {
        const index = Math.max(0, Math.min(length - 1, Math.floor((at - first) / stepMs)));
        const moment = first + index * stepMs;
        const y = scaleLinear([0, high], [height, 0]);
        if (length === 0) return null;
        return {
          x: Math.max(0, x(moment + stepMs / 2)),
          y: tops[tops.length - 1]?.[index] == null ? null : y(tops[tops.length - 1]?.[index] ?? 0),
          body: (
            <>
              <div class="tip-time">{to - from > DATED_MS ? dateClock(moment) : clock(moment)}</div>
              {props.lines.map((one) => (
                <div key={one.key} class={cls("tip-row", `tone-${one.tone}`)}>
                  <span class="swatch" />
                  {one.label}
                  <b class="num">{one.values[index] == null ? "not known" : (one.text ?? count)(one.values[index])}</b>
                </div>
              ))}
            </>
          ),
        };
      }}
    />
  );
}

// --- balances

/** Something that happened, at its moment of a chart. */
export interface Mark {
  readonly at: number;
  readonly kind: "settlement" | "up" | "down" | "other";
  readonly text: string;
}

/** A mark is told when the pointer is so near to it, px. */
const MARK_NEAR = 6;

/** A net balance over time: emerald above zero, rose below; with limits, and with what happened. */
export function BalanceChart(props: {
  peerId: string;
  asset: Asset;
  points: readonly BalancePoint[];
  from: number;
  to: number;
  levels?: readonly LevelLine[];
  marks?: readonly Mark[];
  onZoom?: (zoom: Zoom) => void;
}) {
  const id = useId();
  const { asset, from, to } = props;
  const seen = visible(props.points, from, to, 1200);
  const { low, high, drawn, beyond } = withLevels(extent(seen), props.levels ?? []);
  const marks = (props.marks ?? []).filter((one) => one.at >= from && one.at <= to);
  const last = seen[seen.length - 1]?.net ?? 0n;
  // Positions on screen only: money itself stays whole.
  const scale = (height: number) => {
    const y = scaleLinear([Number(low), Number(high)], [height, 0]);
    return (value: bigint) => y(Number(value));
  };
  return (
    <Frame
      class="chart-balance"
      onZoom={props.onZoom}
      label={`Balance with ${props.peerId} from ${dateClock(from)} to ${dateClock(to)}; now ${amount(last, asset.scale)} ${asset.code}, ${owes(last)}`}
      from={from}
      to={to}
      yTicks={(height) => {
        const y = scale(height);
        // Always even: there is no scale that would mean something.
        const ticks = seen.every((point) => point.net === 0n) && drawn.length === 0 ? [0n] : amountTicks(low, high, Math.max(2, Math.floor(height / (em() * 2.6))));
        return ticks.map((value) => ({
          y: y(value),
          label: compact(value, asset.scale),
          zero: value === 0n,
        }));
      }}
      plot={({ height, width, x }) => {
        const y = scale(height);
        const zero = y(0n);
        const part = height === 0 ? 0 : Math.max(0, Math.min(1, zero / height));
        const fill = area<BalancePoint>()
          .curve(curveStepAfter)
          .x((point) => x(point.at))
          .y0(zero)
          .y1((point) => y(point.net));
        const stroke = line<BalancePoint>()
          .curve(curveStepAfter)
          .x((point) => x(point.at))
          .y((point) => y(point.net));
        return (
          <>
            <linearGradient id={`${id}-fill`} gradientUnits="userSpaceOnUse" x1="0" y1="0" x2="0" y2={height}>
              <stop offset="0" class="owed-strong" />
              <stop offset={part} class="owed-faint" />
              <stop offset={part} class="owing-faint" />
              <stop offset="1" class="owing-strong" />
            </linearGradient>
            <linearGradient id={`${id}-stroke`} gradientUnits="userSpaceOnUse" x1="0" y1="0" x2="0" y2={height}>
              <stop offset={part} class="owed-line" />
              <stop offset={part} class="owing-line" />
            </linearGradient>
            <path class="area" data-testid="history-area" d={fill(seen) ?? ""} fill={`url(#${id}-fill)`} />
            <path class="balance-line" d={stroke(seen) ?? ""} stroke={`url(#${id}-stroke)`} />
            {drawn.map((one) => (
              <g key={one.label} class={`level level-${one.kind}`} data-level-line={one.kind}>
                <line x2={width} y1={y(one.value)} y2={y(one.value)} />
                {/* At different ends, so that two that are near to each other can be read. */}
                <text
                  x={one.kind === "limit" ? width - 4 : 4}
                  y={y(one.value) + (one.value < 0n ? -1 : 1) * em() * 0.55}
                  dy="0.32em"
                  text-anchor={one.kind === "limit" ? "end" : "start"}
                >
                  {one.label}
                </text>
              </g>
            ))}
            {beyond.map((one, index) => (
              <text
                key={one.label}
                class={`level-beyond level-${one.kind}`}
                data-level-line={one.kind}
                x={4}
                y={one.value < 0n ? height - em() * (0.6 + index * 1.1) : em() * (0.7 + index * 1.1)}
                dy="0.32em"
              >
                {one.value < 0n ? "↓" : "↑"} {one.label}
              </text>
            ))}
            {marks.map((one) => (
              <g key={`${one.at} ${one.text}`} class={`mark-at mark-${one.kind}`} transform={`translate(${x(one.at)} 0)`} data-mark={one.kind}>
                <line y2={height} />
                <path d={one.kind === "settlement" ? "M0 -5l5 5l-5 5l-5 -5z" : one.kind === "down" ? "M-4 -3h8l-4 7z" : "M-4 4h8l-4 -7z"} transform={`translate(0 ${height - 6})`} />
              </g>
            ))}
            {seen.length > 0 && (
              <circle class={cls("now", last > 0n ? "now-owed" : last < 0n ? "now-owing" : "now-even")} cx={width} cy={y(last)} r={3.5} />
            )}
          </>
        );
      }}
      tip={(at, { height, x }) => {
        const point = pointAt(seen, at);
        if (point === null) return null;
        const near = marks.filter((one) => Math.abs(x(one.at) - x(at)) <= MARK_NEAR).slice(-3);
        return {
          y: scale(height)(point.net),
          body: (
            <>
              <div class="tip-time">{dateClock(at)}</div>
              <div class={cls("tip-row", point.net > 0n ? "owed" : point.net < 0n ? "owing" : "even")}>
                <b class="num">{amount(point.net, asset.scale, true)} {asset.code}</b>
              </div>
              <div class="tip-note">{owes(point.net)}</div>
              <div class="tip-note num">{exactTitle(point.net, asset)}</div>
              {near.map((one) => (
                <div key={`${one.at} ${one.text}`} class="tip-mark">
                  {clock(one.at)} {one.text}
                </div>
              ))}
            </>
          ),
        };
      }}
    />
  );
}

/** A line without axes, to go beside a number; null is a gap. */
export function Spark(props: { values: readonly (number | null)[]; tone: string }) {
  const high = Math.max(1e-9, ...props.values.map((value) => value ?? 0));
  const step = 100 / Math.max(1, props.values.length - 1);
  const path = line<number | null>()
    .defined((value) => value !== null)
    .curve(curveMonotoneX)
    .x((_, index) => index * step)
    .y((value) => 23 - ((value ?? 0) / high) * 21);
  return (
    <svg class={cls("spark", `tone-${props.tone}`)} viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
      <path class="stroke" d={path(props.values) ?? ""} />
    </svg>
  );
}

/** A bar for each value, without axes; null is a gap. One path, however many. */
export function SparkBars(props: { values: readonly (number | null)[]; tone: string }) {
  const high = Math.max(1e-9, ...props.values.map((value) => value ?? 0));
  const step = 100 / Math.max(1, props.values.length);
  const bars = props.values.map((value, index) => (value === null ? "" : `M${((index + 0.5) * step).toFixed(2)} 23V${(22.5 - (value / high) * 20.5).toFixed(2)}`));
  return (
    <svg class={cls("spark spark-bars", `tone-${props.tone}`)} viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
      <path class="stroke" d={bars.join("")} />
    </svg>
  );
}
