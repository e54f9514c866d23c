/** What charts have in common: axes, a pointer that arrow keys move too, a tooltip, and a brush to zoom. */

import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { timeTicks } from "../model/ticks";
import type { Zoom } from "../model/url";
import { cls, useSize } from "./bits";

const LEFT_MIN = 30;
const RIGHT = 8;
const TOP = 10;
/** A brush that is narrower, as a part of the width, is a click. */
const BRUSH_MIN = 0.02;

export interface FrameProps {
  readonly label: string;
  readonly from: number;
  readonly to: number;
  readonly class?: string;
  readonly yTicks: (height: number) => readonly { readonly y: number; readonly label: string; readonly zero?: boolean }[];
  readonly plot: (box: Box) => ComponentChildren;
  /** What is at a moment; null: nothing to tell. */
  readonly tip: (at: number, box: Box) => { readonly y: number | null; readonly x?: number; readonly body: ComponentChildren } | null;
  /** A part of the time was chosen, by dragging or by Enter at both ends. */
  readonly onZoom?: ((zoom: Zoom) => void) | undefined;
}

export interface Box {
  readonly width: number;
  readonly height: number;
  x(at: number): number;
}

export function Frame(props: FrameProps) {
  const [ref, size] = useSize<HTMLDivElement>();
  // Where the pointer is, as a part of the width: it stays while time moves on.
  const [pointer, setPointer] = useState<number | null>(null);
  /** Where the brush began. */
  const [anchor, setAnchor] = useState<number | null>(null);
  const dragging = useRef(false);
  const rem = em();
  const height = Math.max(0, size.height - TOP - rem * 1.6);
  const ticks = height > 0 ? props.yTicks(height) : [];
  // As wide as the longest number needs, so that small amounts keep all their zeros.
  const left = Math.max(LEFT_MIN, 14 + Math.max(0, ...ticks.map((tick) => tick.label.length)) * rem * LETTER);
  const width = Math.max(0, size.width - left - RIGHT);
  const { from, to, onZoom } = props;
  const box: Box = { width, height, x: (at) => ((at - from) / Math.max(1, to - from)) * width };
  const at = pointer === null ? null : from + pointer * (to - from);
  const tip = at === null || width === 0 ? null : props.tip(at, box);
  const tipX = at === null ? 0 : (tip?.x ?? box.x(at));

  const partOf = (event: PointerEvent) => (event.clientX - (event.currentTarget as Element).getBoundingClientRect().left - left) / Math.max(1, width);
  const move = (event: PointerEvent) => {
    const part = partOf(event);
    if (dragging.current) setPointer(Math.max(0, Math.min(1, part)));
    else setPointer(part < 0 || part > 1 ? null : part);
  };
  const zoom = (a: number, b: number) => {
    const [low, high] = a < b ? [a, b] : [b, a];
    setAnchor(null);
    if (high - low >= BRUSH_MIN) onZoom?.({ from: from + low * (to - from), to: from + high * (to - from) });
  };
  const down = (event: PointerEvent) => {
    const part = partOf(event);
    move(event);
    if (onZoom === undefined || event.button !== 0 || part < 0 || part > 1) return;
    (event.currentTarget as Element).setPointerCapture(event.pointerId);
    dragging.current = true;
    setAnchor(part);
  };
  const up = (event: PointerEvent) => {
    if (!dragging.current) return;
    dragging.current = false;
    zoom(anchor ?? 0, Math.max(0, Math.min(1, partOf(event))));
  };
  const stop = () => {
    dragging.current = false;
    setAnchor(null);
    setPointer(null);
  };
  const key = (event: KeyboardEvent) => {
    const step = event.key === "ArrowLeft" ? -0.02 : event.key === "ArrowRight" ? 0.02 : 0;
    if (step !== 0) {
      event.preventDefault();
      setPointer((before) => Math.max(0, Math.min(1, (before ?? 1) + step)));
    } else if (event.key === "Escape" && (pointer !== null || anchor !== null)) {
      // It ends what is chosen here, and closes nothing else.
      event.stopPropagation();
      stop();
    } else if (event.key === "Enter" && onZoom !== undefined && pointer !== null) {
      event.preventDefault();
      if (anchor === null) setAnchor(pointer);
      else zoom(anchor, pointer);
    }
  };

  return (
    <div class={cls("chart", props.class)} ref={ref}>
      {width > 0 && height > 0 && (
        <svg
          width={size.width}
          height={size.height}
          viewBox={`0 0 ${size.width} ${size.height}`}
          role="img"
          aria-label={onZoom === undefined ? props.label : `${props.label}. Drag over a part, or press Enter at both of its ends, to zoom.`}
          class={cls(onZoom !== undefined && "zooms")}
          tabindex={0}
          onPointerMove={move}
          onPointerDown={down}
          onPointerUp={up}
          onPointerCancel={stop}
          onPointerLeave={() => {
            if (!dragging.current) setPointer(null);
          }}
          onBlur={stop}
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
            {anchor !== null && pointer !== null && (
              <rect class="brush" x={Math.min(anchor, pointer) * width} width={Math.abs(pointer - anchor) * width} height={height} />
            )}
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
export function em(): number {
  return Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 14;
}

/** Beside the ranges of a chart: the way back from a zoom. */
export function Unzoom(props: { zoomed: boolean; onReset: () => void }) {
  if (!props.zoomed) return null;
  return (
    <button type="button" class="button small" onClick={props.onReset} data-testid="unzoom">
      Whole range
    </button>
  );
}
