/**
 * The live feed: one WebSocket that comes back by itself and resumes where it ended.
 *
 * The daemon sends a snapshot, or after a short absence what was missed, then frames. Where it says
 * that events are missing (`gap`), the feed starts over, so that a snapshot makes the page whole.
 */

import type { Snapshot, WireEvent } from "./types";

export type FeedState = "connecting" | "live" | "offline";

export interface Frame {
  /** Of the last event that it covers. */
  readonly seq: number;
  readonly events: readonly WireEvent[];
  readonly gap?: boolean;
}

/** The part of a WebSocket that is used: tests bring their own. */
export interface Socket {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  close(): void;
}

export interface FeedPorts {
  /** Open a socket that goes on after `since`; null: from now. */
  connect(since: number | null): Socket;
  onState(state: FeedState): void;
  /** The whole state; what was shown before is replaced. */
  onSnapshot(snapshot: Snapshot): void;
  /** Events that are all new. */
  onEvents(events: readonly WireEvent[]): void;
  /** Events are missing: this page was too slow, or away for too long. */
  onGap(): void;
  /** The socket was closed or refused. */
  onClosed(code: number): void;
  later(work: () => void, ms: number): number;
  cancel(timer: number): void;
  random(): number;
}

export const RETRY_MS_MIN = 250;
export const RETRY_MS_MAX = 5000;
/** The daemon tells its status every second: silence for so long is a dead connection. */
export const SILENCE_MS_MAX = 15_000;
/** Later than this is worth a word. */
const BEHIND_MS = 1500;
/** A status a second, and what delays one for a moment. */
const SILENT_MS = 3000;

/** How far the page is behind the node, ms: by what it hears late, or hears no more. */
export function behind(lateMs: number, silentMs: number): { readonly ms: number; readonly silent: boolean } | null {
  if (silentMs > SILENT_MS) return { ms: silentMs, silent: true };
  return lateMs > BEHIND_MS ? { ms: lateMs, silent: false } : null;
}

export class Feed {
  private socket: Socket | null = null;
  private last: number | null = null;
  private attempts = 0;
  private timer: number | null = null;
  private watchdog: number | null = null;
  private stopped = false;

  constructor(private readonly ports: FeedPorts) {}

  get lastSeq(): number | null {
    return this.last;
  }

  start(): void {
    this.stopped = false;
    this.open();
  }

  stop(): void {
    this.stopped = true;
    this.drop();
  }

  /** Try at once: the network is back, or someone logged in. */
  now(): void {
    if (this.stopped || this.socket !== null) return;
    this.clearTimer();
    this.open();
  }

  private open(): void {
    this.ports.onState("connecting");
    const socket = this.ports.connect(this.last);
    this.socket = socket;
    // A way that swallows everything does not even refuse.
    this.watch();
    socket.onopen = () => {
      this.watch();
    };
    socket.onmessage = (message) => {
      if (this.socket === socket) this.receive(String(message.data));
    };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.drop();
      this.ports.onClosed(event.code);
      if (!this.stopped) this.retry();
    };
  }

  private receive(text: string): void {
    const message = JSON.parse(text) as Frame | Snapshot;
    this.watch();
    this.attempts = 0;
    this.ports.onState("live");
    if (message.gap === true && this.last !== null) this.ports.onGap();
    if ("type" in message) {
      this.last = message.seq;
      this.ports.onSnapshot(message);
      return;
    }
    if (message.gap === true) {
      // What is shown can no longer be trusted: begin anew, with a snapshot.
      this.last = null;
      this.drop();
      if (!this.stopped) this.open();
      return;
    }
    const last = this.last ?? 0;
    const events = message.events.filter((event) => event.seq > last);
    this.last = Math.max(last, message.seq);
    if (events.length > 0) this.ports.onEvents(events);
  }

  private retry(): void {
    this.ports.onState("offline");
    const most = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** this.attempts);
    this.attempts += 1;
    // Not all pages at the same moment after a restart.
    this.timer = this.ports.later(
      () => {
        this.timer = null;
        this.open();
      },
      most * (0.5 + this.ports.random() / 2),
    );
  }

  private watch(): void {
    if (this.watchdog !== null) this.ports.cancel(this.watchdog);
    this.watchdog = this.ports.later(() => {
      this.watchdog = null;
      this.drop();
      if (!this.stopped) this.retry();
    }, SILENCE_MS_MAX);
  }

  private drop(): void {
    this.clearTimer();
    if (this.watchdog !== null) this.ports.cancel(this.watchdog);
    this.watchdog = null;
    const socket = this.socket;
    this.socket = null;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  private clearTimer(): void {
    if (this.timer !== null) this.ports.cancel(this.timer);
    this.timer = null;
  }
}
