import { beforeEach, describe, expect, test } from "vitest";
import { behind, Feed, type FeedState, RETRY_MS_MAX, SILENCE_MS_MAX, type Socket } from "../src/model/feed";
import type { Snapshot, WireEvent } from "../src/model/types";
import { balance, snapshot } from "./samples";

class FakeSocket implements Socket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  closed = false;
  constructor(readonly since: number | null) {}
  close(): void {
    this.closed = true;
  }
  say(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

class Net {
  sockets: FakeSocket[] = [];
  states: FeedState[] = [];
  snapshots: Snapshot[] = [];
  events: number[] = [];
  gaps = 0;
  codes: number[] = [];
  timers = new Map<number, { work: () => void; ms: number }>();
  private next = 1;
  feed = new Feed({
    connect: (since) => {
      const socket = new FakeSocket(since);
      this.sockets.push(socket);
      return socket;
    },
    onState: (state) => this.states.push(state),
    onSnapshot: (one) => this.snapshots.push(one),
    onEvents: (events: readonly WireEvent[]) => this.events.push(...events.map((event) => event.seq)),
    onGap: () => (this.gaps += 1),
    onClosed: (code) => this.codes.push(code),
    later: (work, ms) => {
      this.timers.set(this.next, { work, ms });
      return this.next++;
    },
    cancel: (timer) => this.timers.delete(timer),
    random: () => 1,
  });

  get socket(): FakeSocket {
    return this.sockets[this.sockets.length - 1] as FakeSocket;
  }

  /** Let the only timer run out; gives its length. */
  runTimer(): number {
    const [[id, timer] = [0, { work: () => {}, ms: 0 }]] = this.timers;
    expect(this.timers.size).toBe(1);
    this.timers.delete(id);
    timer.work();
    return timer.ms;
  }
}

let net: Net;
beforeEach(() => {
  net = new Net();
  net.feed.start();
});

describe("the feed", () => {
  test("begins with a snapshot and goes on with frames", () => {
    expect(net.socket.since).toBeNull();
    net.socket.say(snapshot(10));
    net.socket.say({ seq: 12, events: [balance(11), balance(12)] });
    expect(net.snapshots.map((one) => one.seq)).toEqual([10]);
    expect(net.events).toEqual([11, 12]);
    expect(net.states.at(-1)).toBe("live");
    expect(net.gaps).toBe(0);
  });

  test("resumes where it ended, and takes nothing twice", () => {
    net.socket.say(snapshot(10));
    net.socket.say({ seq: 11, events: [balance(11)] });
    net.socket.onclose?.({ code: 1006 });
    expect(net.states.at(-1)).toBe("offline");
    net.runTimer();
    expect(net.socket.since).toBe(11);
    net.socket.say({ seq: 13, events: [balance(11), balance(12), balance(13)] });
    expect(net.events).toEqual([11, 12, 13]);
    expect(net.snapshots).toHaveLength(1);
  });

  test("after a restart of the daemon a snapshot with a gap counts as one gap", () => {
    net.socket.say(snapshot(10));
    net.socket.onclose?.({ code: 1012 });
    net.runTimer();
    net.socket.say(snapshot(5000, { gap: true }));
    expect(net.gaps).toBe(1);
    net.socket.say({ seq: 5001, events: [balance(5001)] });
    expect(net.events).toEqual([5001]);
  });

  test("too slow: it starts over with a snapshot", () => {
    net.socket.say(snapshot(10));
    const slow = net.socket;
    slow.say({ seq: 900, events: [], gap: true });
    expect(net.gaps).toBe(1);
    expect(slow.closed).toBe(true);
    expect(net.socket).not.toBe(slow);
    expect(net.socket.since).toBeNull();
    net.socket.say(snapshot(901));
    expect(net.gaps).toBe(1);
  });

  test("waits longer after each failure, up to a bound, and starts small after success", () => {
    const waits = Array.from({ length: 8 }, () => {
      net.socket.onclose?.({ code: 1006 });
      return net.runTimer();
    });
    expect(waits.slice(0, 4)).toEqual([250, 500, 1000, 2000]);
    expect(waits.at(-1)).toBe(RETRY_MS_MAX);
    net.socket.say(snapshot(1));
    net.socket.onclose?.({ code: 1006 });
    expect(net.runTimer()).toBe(250);
  });

  test("silence is a dead connection", () => {
    net.socket.say(snapshot(10));
    expect([...net.timers.values()].map((timer) => timer.ms)).toEqual([SILENCE_MS_MAX]);
    net.runTimer();
    expect(net.states.at(-1)).toBe("offline");
    net.runTimer();
    expect(net.socket.since).toBe(10);
  });

  test("`now` does not wait for the timer", () => {
    net.socket.onclose?.({ code: 1006 });
    net.feed.now();
    expect(net.sockets).toHaveLength(2);
    expect([...net.timers.values()].map((timer) => timer.ms)).toEqual([SILENCE_MS_MAX]);
  });

  test("a way that neither opens nor refuses is given up", () => {
    expect(net.runTimer()).toBe(SILENCE_MS_MAX);
    expect(net.states.at(-1)).toBe("offline");
    expect(net.sockets).toHaveLength(1);
  });

  test("stopped, it stays so", () => {
    net.socket.say(snapshot(10));
    net.feed.stop();
    expect(net.timers.size).toBe(0);
    net.feed.now();
    expect(net.sockets).toHaveLength(1);
  });
});

test("the page is behind by what comes late, or comes no more", () => {
  expect(behind(1500, 3000)).toBeNull();
  expect(behind(1501, 0)).toEqual({ ms: 1501, silent: false });
  expect(behind(9000, 3001)).toEqual({ ms: 3001, silent: true });
  expect(behind(0, Number.NEGATIVE_INFINITY)).toBeNull();
});
