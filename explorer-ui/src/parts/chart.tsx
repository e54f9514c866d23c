/** Charts in SVG: rates over time, and balances over time. */

import { scaleLinear } from "d3-scale";
import { area, curveMonotoneX, curveStepAfter, line } from "d3-shape";
import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { amount, type Asset, clock, compact, count, dateClock, exactTitle, owes } from "../model/format";
import { extent, pointAt, visible } from "../model/points";
import type { BalancePoint } from "../model/store";
import { amountTicks, type Tick, timeTicks } from "../model/ticks";
import { cls, useSize } from "./bits";

const LEFT_MIN = 30;
const RIGHT = 8;
const TOP = 10;

interface FrameProps {
  readonly label: string;
  readonly from: number;
  readonly to: number;
  readonly class?: string;
  readonly yTicks: (height: number) => readonly { readonly y: number; readonly label: string; readonly zero?: boolean }[];
  readonly plot: (box: Box) => ComponentChildren;
  /** What is at a moment; null: nothing to tell. */
  readonly tip: (at: number, box: Box) => { readonly y: number | null; readonly x?: number; readonly body: ComponentChildren } | null;
}

export interface Box {
  readonly width: number;
  readonly height: number;
  x(at: number): number;
}

/** Axes, a pointer that can also be moved by arrow keys, and a tooltip. */
function Frame(props: FrameProps) {
  const [ref, size] = useSize<HTMLDivElement>();
  // Where the pointer is, as a part of the width: it stays while time moves on.
  const [pointer, setPointer] = useState<number | null>(null);
  const rem = em();
  const height = Math.max(0, size.height - TOP - rem * 1.6);
  const ticks = height > 0 ? props.yTicks(height) : [];
  // As wide as the longest number needs, so that small amounts keep all their zeros.
  const left = Math.max(LEFT_MIN, 14 + Math.max(0, ...ticks.map((tick) => tick.label.length)) * rem * LETTER);
  const width = Math.max(0, size.width - left - RIGHT);
  const { from, to } = props;
  const box: Box = { width, height, x: (at) => ((at - from) / Math.max(1, to - from)) * width };
  const at = pointer === null ? null : from + pointer * (to - from);
  const tip = at === null || width === 0 ? null : props.tip(at, box);
  const tipX = at === null ? 0 : (tip?.x ?? box.x(at));

  const move = (event: PointerEvent) => {
    const bounds = (event.currentTarget as Element).getBoundingClientRect();
    const part = (event.clientX - bounds.left - left) / Math.max(1, width);
    setPointer(part < 0 || part > 1 ? null : part);
  };
  const key = (event: KeyboardEvent) => {
    const step = event.key === "ArrowLeft" ? -0.02 : event.key === "ArrowRight" ? 0.02 : 0;
    if (step === 0) {
      if (event.key === "Escape" && pointer !== null) setPointer(null);
      return;
    }
    event.preventDefault();
    setPointer((before) => Math.max(0, Math.min(1, (before ?? 1) + step)));
  };

  return (
    <div class={cls("chart", props.class)} ref={ref}>
      {width > 0 && height > 0 && (
        <svg
          width={size.width}
          height={size.height}
          viewBox={`0 0 ${size.width} ${size.height}`}
          role="img"
          aria-label={props.label}
          tabIndex={0}
          onPointerMove={move}
          onPointerDown={move}
          onPointerLeave={() => {
            setPointer(null);
          }}
          onBlur={() => {
            setPointer(null);
          }}
          onKeyDown={key}
        >
          <g transform={`translate(${left} ${TOP})`}>
            {ticks.map((tick) => (
              <g key={tick.label} transform={`translate(0 ${tick.y})`}>
                <line class={tick.zero ? "axis-zero" : "axis-line"} x2={width} />
                <text class="axis-text" x={-8} dy="0.32em" text-anchor="end">
                  {tick.label}
                </text>
              </g>
            ))}
            {timeTicks(from, to, width / (rem * 6.5))
              .map((tick) => ({ ...tick, x: box.x(tick.at), half: (tick.label.length * rem * LETTER) / 2 }))
              .filter((tick) => tick.x >= tick.half - left + 8 && tick.x <= width + RIGHT - tick.half)
              .map((tick) => (
                <text key={tick.at} class="axis-text" x={tick.x} y={height + rem * 1.2} text-anchor="middle">
                  {tick.label}
                </text>
              ))}
            {props.plot(box)}
            {tip !== null && (
              <g class="cursor">
                <line x1={tipX} x2={tipX} y2={height} />
                {tip.y !== null && <circle cx={tipX} cy={tip.y} r={4} />}
              </g>
            )}
          </g>
        </svg>
      )}
      {tip !== null && (
        <div
          class={cls("tip", tipX > width / 2 && "tip-left")}
          role="tooltip"
          style={{ left: `${left + tipX}px`, top: `${TOP}px` }}
        >
          {tip.body}
        </div>
      )}
    </div>
  );
}

/** The width of a digit in the text of axes, of the page's letter size. */
const LETTER = 0.45;

/** The page's letter size, px. */
function em(): number {
  return Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 14;
}

// --- rates

export interface RateLine {
  readonly key: string;
  readonly label: string;
  readonly tone: string;
  /** Null: not known, a gap. */
  readonly values: readonly (number | null)[];
  readonly text?: (value: number) => string;
}

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
              <div class="tip-time">{clock(moment)}</div>
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

/** A net balance over time: emerald above zero, rose below. */
export function BalanceChart(props: {
  peerId: string;
  asset: Asset;
  points: readonly BalancePoint[];
  from: number;
  to: number;
}) {
  const id = useId();
  const { asset, from, to } = props;
  const seen = visible(props.points, from, to, 1200);
  const [low, high] = extent(seen);
  const last = seen[seen.length - 1]?.net ?? 0n;
  // Positions on screen only: money itself stays whole.
  const scale = (height: number) => {
    const y = scaleLinear([Number(low), Number(high)], [height, 0]);
    return (value: bigint) => y(Number(value));
  };
  return (
    <Frame
      class="chart-balance"
      label={`Balance with ${props.peerId} from ${dateClock(from)} to ${dateClock(to)}; now ${amount(last, asset.scale)} ${asset.code}, ${owes(last)}`}
      from={from}
      to={to}
      yTicks={(height) => {
        const y = scale(height);
        return amountTicks(low, high, Math.max(2, Math.floor(height / (em() * 2.6)))).map((value) => ({
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
            {seen.length > 0 && (
              <circle class={cls("now", last > 0n ? "now-owed" : last < 0n ? "now-owing" : "now-even")} cx={width} cy={y(last)} r={3.5} />
            )}
          </>
        );
      }}
      tip={(at, { height }) => {
        const point = pointAt(seen, at);
        if (point === null) return null;
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
            </>
          ),
        };
      }}
    />
  );
}

/** A line without axes, to go beside a number. */
export function Spark(props: { values: readonly number[]; tone: string }) {
  const high = Math.max(1e-9, ...props.values);
  const step = 100 / Math.max(1, props.values.length - 1);
  const path = line<number>()
    .curve(curveMonotoneX)
    .x((_, index) => index * step)
    .y((value) => 23 - (value / high) * 21);
  return (
    <svg class={cls("spark", `tone-${props.tone}`)} viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
      <path class="stroke" d={path(props.values) ?? ""} />
    </svg>
  );
}
