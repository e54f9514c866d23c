/** Every packet: a table that draws only what is seen, filters, and the story of one packet. */

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { get } from "../model/api";
import { isFiltered, NO_FILTER, type PacketFilter, wanted } from "../model/filters";
import { clock, count, duration, plural, shortId } from "../model/format";
import { isPacketEvent, type PacketRow, type PacketState } from "../model/packets";
import type { Page, WireEvent } from "../model/types";
import { Chip, cls, Empty, Failure, Money, useMedia, useSize, useThrottled } from "../parts/bits";
import { failed, now, place, setQuery, store } from "../state";
import { PacketDrawer } from "./packet";
import { WayView } from "./way";

const STATES: readonly PacketState[] = ["fulfilled", "rejected", "in flight"];
const SPANS: readonly (readonly [string, string])[] = [
  ["", "any time"],
  ["60000", "last minute"],
  ["300000", "last 5 minutes"],
  ["3600000", "last hour"],
  ["86400000", "last 24 hours"],
  ["604800000", "last 7 days"],
];
/** The newest rows are drawn anew at most so often. */
const DRAWN_MS = 400;
const PAGE = 500;
/** So many new rows end a search that was asked for by scrolling. */
const ROWS_AT_ONCE = 40;
/** After the last letter that was typed. */
const TYPED_MS = 250;
/** An answer that has not been seen for so long will not come any more. */
const ANSWER_MS_MAX = 320_000;

export function filterOf(query: Readonly<Record<string, string>>): PacketFilter {
  const state = STATES.find((one) => one === query["state"]);
  return {
    ...NO_FILTER,
    peer: query["peer"] ?? "",
    state: state ?? "",
    code: query["code"] ?? "",
    span: Number(query["span"] ?? 0) || 0,
    from: moment(query["from"]),
    to: moment(query["to"]),
    text: query["q"] ?? "",
  };
}

function moment(text: string | undefined): number {
  const at = Date.parse(text ?? "");
  return Number.isNaN(at) ? 0 : at;
}

export function Packets() {
  const { condition, way, packet, at } = place.value.query;
  const covers = useMedia("(max-width: 52rem)");
  if (condition === undefined || !CONDITION.test(condition)) return <List />;
  return (
    <div class={cls("packets", packet !== undefined && "with-drawer")}>
      <div class="packets-main" inert={covers && packet !== undefined}>
        <WayView condition={condition} packetId={way ?? packet ?? ""} at={at ?? ""} />
      </div>
      {packet !== undefined && <PacketDrawer id={packet} />}
    </div>
  );
}

const CONDITION = /^[0-9a-f]{64}$/;

function List() {
  const { query } = place.value;
  const filter = filterOf(query);
  const open = query["packet"];
  const older = useOlder(filter);
  const frozen = useSignal<readonly PacketRow[] | null>(null);

  // The newest rows are drawn at most a few times a second: a busy node must stay readable.
  const version = useThrottled(store.packetsVersion.value, DRAWN_MS);
  const live = useMemo(
    () => store.packets.rows(wanted(filter, now.peek())),
    [version, older.version, JSON.stringify(query), filter.span > 0 ? now.value : 0],
  );
  const rows = frozen.value ?? live;
  // The story of a packet then covers the table: what is beneath must not take the focus.
  const covers = useMedia("(max-width: 52rem)");
  const news = frozen.value === null ? 0 : Math.max(0, countNews(live, frozen.value));
  const around = neighbours(rows, open);
  useStepKeys(around);

  return (
    <div class={cls("packets", open !== undefined && "with-drawer")}>
      <section class="packets-main" aria-label="Packets" inert={covers && open !== undefined}>
        <Filters filter={filter} shown={rows.length} all={older.done} />
        <Table
          rows={rows}
          open={open}
          onFreeze={(freeze) => {
            frozen.value = freeze ? (frozen.value ?? live) : null;
          }}
          news={news}
          onEnd={older.load}
          round={older.round}
          foot={
            older.error !== "" ? (
              <Failure message={older.error} retry={older.load} />
            ) : older.busy ? (
              "Looking further back …"
            ) : older.done ? (
              "No older packets are stored."
            ) : (
              <button type="button" class="link" onClick={older.load}>
                Look further back
              </button>
            )
          }
          empty={
            isFiltered(filter) ? (
              older.done ? (
                <Empty title="No packet fits these filters">All that is stored was looked at.</Empty>
              ) : (
                <Empty title="None found yet">Still looking through what is stored.</Empty>
              )
            ) : (
              <Empty title="No packets yet">They appear here the moment the first one arrives.</Empty>
            )
          }
        />
      </section>
      {open !== undefined && <PacketDrawer id={open} around={around} />}
    </div>
  );
}

/** The rows above and below one: newer and older. */
export interface Around {
  readonly newer: string | null;
  readonly older: string | null;
}

function neighbours(rows: readonly PacketRow[], id: string | undefined): Around {
  const at = id === undefined ? -1 : rows.findIndex((row) => row.id === id);
  return at < 0 ? { newer: null, older: null } : { newer: rows[at - 1]?.id ?? null, older: rows[at + 1]?.id ?? null };
}

/** From packet to packet while one is open: k is up, j is down. */
function useStepKeys(around: Around): void {
  const latest = useRef(around);
  latest.current = around;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") !== null) return;
      if ((event.target as HTMLElement).matches("input, select, textarea")) return;
      const next = event.key === "j" ? latest.current.older : event.key === "k" ? latest.current.newer : null;
      if (next === null) return;
      event.preventDefault();
      setQuery({ packet: next });
    };
    window.addEventListener("keydown", onKey);
    return () => {
      window.removeEventListener("keydown", onKey);
    };
  }, []);
}

function countNews(live: readonly PacketRow[], frozen: readonly PacketRow[]): number {
  const newest = frozen[0];
  if (newest === undefined) return live.length;
  const at = live.findIndex((row) => row.id === newest.id);
  return at < 0 ? live.length : at;
}

/** A value once it has not changed for a while; the first at once. */
function useSettled(value: string, ms: number): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = window.setTimeout(() => {
      setSettled(value);
    }, ms);
    return () => {
      window.clearTimeout(timer);
    };
  }, [value, ms]);
  return settled;
}

/** Pages of older answers, from the event store. */
function useOlder(filter: PacketFilter) {
  const [state, setState] = useState({ busy: false, done: false, error: "", version: 0, round: 0 });
  const cursor = useRef<string | number | null>(null);
  const run = useRef(0);
  const wish = JSON.stringify([filter.peer, filter.state, filter.span, filter.from, filter.to, filter.text, filter.code]);
  const key = useSettled(wish, TYPED_MS);

  const load = () => {
    if (state.busy || state.done) return;
    const mine = run.current;
    setState((before) => ({ ...before, busy: true, error: "" }));
    void (async () => {
      try {
        const test = wanted(filter, Date.now());
        let done = false;
        while (!done) {
          const answer: Page<WireEvent> = await get<Page<WireEvent>>("api/events", {
            type:
              filter.state === "fulfilled"
                ? "PACKET_FULFILLED"
                : filter.state === "rejected"
                  ? "PACKET_REJECTED"
                  : "PACKET_FULFILLED,PACKET_REJECTED",
            peer: filter.peer,
            from: filter.span > 0 ? Date.now() - filter.span : filter.from > 0 ? filter.from : null,
            to: filter.to > 0 ? filter.to : null,
            text: filter.text.trim(),
            code: filter.code,
            limit: PAGE,
            cursor: cursor.current,
          });
          if (run.current !== mine) return;
          cursor.current = answer.next;
          const before = store.packets.rows(test).length;
          store.packets.addPast(answer.items.filter(isPacketEvent));
          done = answer.next === null || store.packets.pastIsFull;
          if (store.packets.rows(test).length >= before + ROWS_AT_ONCE) break;
        }
        setState((before) => ({ ...before, busy: false, done, error: "", version: before.version + 1 }));
      } catch (error) {
        if (run.current === mine) setState((before) => ({ ...before, busy: false, error: failed(error) }));
      }
    })();
  };

  useEffect(() => {
    run.current += 1;
    cursor.current = null;
    // What was found for another question would leave holes in this list.
    store.packets.dropPast();
    setState((before) => ({ busy: false, done: false, error: "", version: before.version + 1, round: before.round + 1 }));
  }, [key]);

  // What is typed and not asked for yet is still to be looked for.
  return { ...state, load, done: state.done && key === wish };
}

// --- filters

function Filters(props: { filter: PacketFilter; shown: number; all: boolean }) {
  const { filter } = props;
  const change = (name: string) => (event: { currentTarget: { value: string } }) => {
    setQuery({ [name]: event.currentTarget.value });
  };
  const local = (ms: number) => {
    if (ms === 0) return "";
    const t = new Date(ms);
    return new Date(ms - t.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
  };
  const custom = filter.from > 0 || filter.to > 0 || place.value.query["range"] === "custom";
  return (
    <div class="filters" role="search" aria-label="Filter packets">
      <input
        class="input grow"
        type="search"
        placeholder="Destination, packet id, code, amount …"
        aria-label="Text"
        value={filter.text}
        onInput={change("q")}
      />
      <select class="input" aria-label="Peer" value={filter.peer} onChange={change("peer")}>
        <option value="">all peers</option>
        {store.peers.value.map((peer) => (
          <option key={peer.peerId} value={peer.peerId}>
            {peer.peerId}
          </option>
        ))}
      </select>
      <select class="input" aria-label="Status" value={filter.state} onChange={change("state")}>
        <option value="">any status</option>
        {STATES.map((state) => (
          <option key={state} value={state}>
            {state}
          </option>
        ))}
      </select>
      <select class="input" aria-label="Type of reject" value={filter.code} onChange={change("code")}>
        <option value="">any answer</option>
        <option value="F">F: final</option>
        <option value="T">T: temporary</option>
        <option value="R">R: relative</option>
        {filter.code.length > 1 && <option value={filter.code}>{filter.code}</option>}
      </select>
      <select
        class="input"
        aria-label="Time"
        value={custom ? "custom" : filter.span === 0 ? "" : String(filter.span)}
        onChange={(event) => {
          const value = event.currentTarget.value;
          setQuery(value === "custom" ? { span: "", range: "custom" } : { span: value, range: "", from: "", to: "" });
        }}
      >
        {SPANS.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
        <option value="custom">from … to …</option>
      </select>
      {custom && (
        <>
          {(["from", "to"] as const).map((end) => (
            <input
              key={end}
              class="input"
              type="datetime-local"
              step="1"
              aria-label={end === "from" ? "From" : "To"}
              value={local(filter[end])}
              onChange={(event) => {
                const at = Date.parse(event.currentTarget.value);
                setQuery({ [end]: Number.isNaN(at) ? "" : new Date(at).toISOString() });
              }}
            />
          ))}
        </>
      )}
      <span class="filters-count" aria-live={isFiltered(filter) ? "polite" : "off"} data-testid="packets-shown">
        {isFiltered(filter)
          ? `${plural(props.shown, "packet")} ${props.shown === 1 ? "fits" : "fit"}${props.all ? "" : " so far"}`
          : `${plural(props.shown, "packet")} shown${props.all ? "" : ", the newest"}`}
      </span>
      {isFiltered(filter) && (
        <button
          type="button"
          class="button"
          onClick={() => {
            setQuery({ peer: "", state: "", code: "", span: "", from: "", to: "", range: "", q: "" });
          }}
        >
          Clear
        </button>
      )}
    </div>
  );
}

// --- table

const COLUMNS = ["Time", "Packet", "From", "Next hop", "Destination", "Amount", "Sent on", "Status", "Took", "Answer"];
const ROWS_BEYOND = 12;

function Table(props: {
  rows: readonly PacketRow[];
  open: string | undefined;
  news: number;
  onFreeze: (freeze: boolean) => void;
  onEnd: () => void;
  /** Rises when it is asked anew what is older. */
  round: number;
  foot: preact.ComponentChildren;
  empty: preact.ComponentChildren;
}) {
  const { rows } = props;
  const [ref, size] = useSize<HTMLDivElement>();
  const [top, setTop] = useState(0);
  const focused = useSignal<string | null>(null);
  const rowHeight = useRowHeight(size.width);
  const first = Math.max(0, Math.floor(top / rowHeight) - ROWS_BEYOND);
  const last = Math.min(rows.length, Math.ceil((top + size.height) / rowHeight) + ROWS_BEYOND);

  // The end is in sight: look for older ones, also when there are too few to scroll.
  const atEnd = size.height > 0 && rows.length * rowHeight - (top + size.height) < rowHeight * 4;
  useEffect(() => {
    if (atEnd) props.onEnd();
  }, [atEnd, rows.length, props.round]);

  const reveal = (index: number) => {
    const body = ref.current;
    if (index < 0 || body === null) return;
    const y = index * rowHeight;
    if (y < body.scrollTop) body.scrollTop = y;
    else if (y + rowHeight > body.scrollTop + size.height) body.scrollTop = y + rowHeight - size.height;
  };
  // The one that is open stays in sight when another is stepped to.
  useEffect(() => {
    if (props.open === undefined) return;
    focused.value = props.open;
    reveal(rows.findIndex((row) => row.id === props.open));
  }, [props.open]);

  const focus = (index: number) => {
    const row = rows[index];
    const body = ref.current;
    if (row === undefined || body === null) return;
    focused.value = row.id;
    reveal(index);
    requestAnimationFrame(() => {
      body.querySelector<HTMLElement>(`[data-id="${row.id}"]`)?.focus({ preventScroll: true });
    });
  };

  const drawn = rows.slice(first, last);
  // Where Tab leads to; the row that had the focus may have moved out of what is drawn.
  const seen = Math.min(Math.ceil(top / rowHeight), rows.length - 1);
  const entry = drawn.some((row) => row.id === focused.value) ? focused.value : rows[seen]?.id;

  return (
    <div class="table">
     <div role="grid" aria-label="Packets, newest first" aria-rowcount={rows.length + 2} aria-readonly="true">
      <div class="row row-head" role="row" aria-rowindex={1}>
        {COLUMNS.map((name) => (
          <span key={name} role="columnheader" class={`cell cell-${name.toLowerCase().replace(" ", "-")}`}>
            {name}
          </span>
        ))}
      </div>
      <div
        class="table-body"
        role="presentation"
        ref={ref}
        style={{ "--rows": `calc(${rows.length * rowHeight}px + 4rem)` }}
        data-testid="packet-rows"
        onScroll={(event) => {
          const y = event.currentTarget.scrollTop;
          setTop(y);
          props.onFreeze(y > rowHeight);
        }}
        onKeyDown={(event) => {
          if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
          const at = rows.findIndex((row) => row.id === focused.value);
          if (!(event.target as Element).matches("[data-id]")) return;
          event.preventDefault();
          focus(at + (event.key === "ArrowDown" ? 1 : -1));
        }}
      >
        {rows.length === 0 && <Whole index={2}>{props.empty}</Whole>}
        <div role="rowgroup" class="table-space" style={{ height: `${rows.length * rowHeight}px` }}>
          {drawn.map((row, index) => (
            <Row
              key={row.id}
              row={row}
              version={row.state}
              index={first + index}
              y={(first + index) * rowHeight}
              height={rowHeight}
              open={row.id === props.open}
              isEntry={row.id === entry}
              onFocus={() => {
                focused.value = row.id;
              }}
            />
          ))}
        </div>
        <Whole index={rows.length + 2} class="table-foot">
          {props.foot}
        </Whole>
      </div>
     </div>
      {props.news > 0 && (
        <button
          type="button"
          class="news"
          onClick={() => {
            if (ref.current !== null) ref.current.scrollTop = 0;
          }}
        >
          {count(props.news)} new ↑
        </button>
      )}
    </div>
  );
}

/** A row with something else than a packet. */
function Whole(props: { index: number; class?: string; children: preact.ComponentChildren }) {
  return (
    <div role="rowgroup">
      <div role="row" aria-rowindex={props.index} class={props.class}>
        <div role="gridcell" aria-colspan={COLUMNS.length}>
          {props.children}
        </div>
      </div>
    </div>
  );
}

function useRowHeight(width: number): number {
  const [height, setHeight] = useState(34);
  useLayoutEffect(() => {
    const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 14;
    // Narrow: two lines a row.
    setHeight(Math.round(rem * (width > 0 && width < 720 ? 3.9 : 2.35)));
  }, [width]);
  return height;
}

/** `state` is that of the row, which is changed in place: without it nobody would see that it has changed. */
export function StateChip(props: { row: PacketRow; state: PacketState }) {
  const { row, state } = props;
  if (state === "fulfilled") return <Chip kind="ok">fulfilled</Chip>;
  if (state === "rejected") {
    return (
      <Chip kind="bad" title={`${row.message} (${row.triggeredBy === "" ? "here" : row.triggeredBy})`}>
        {row.code} rejected
      </Chip>
    );
  }
  if (now.value - row.at > ANSWER_MS_MAX) {
    return (
      <Chip kind="quiet" title="Its answer was not kept as an event">
        no answer seen
      </Chip>
    );
  }
  return <Chip kind="wait">in flight</Chip>;
}

function Row(props: {
  row: PacketRow;
  version: string;
  index: number;
  y: number;
  height: number;
  open: boolean;
  isEntry: boolean;
  onFocus: () => void;
}) {
  const { row } = props;
  const toggle = () => {
    setQuery({ packet: props.open ? "" : row.id });
  };
  return (
    <div
      class={cls("row", "row-body", props.open && "row-open", props.index % 2 === 1 && "row-odd")}
      role="row"
      aria-rowindex={props.index + 2}
      aria-selected={props.open}
      tabIndex={props.isEntry ? 0 : -1}
      data-id={row.id}
      style={{ transform: `translateY(${props.y}px)`, height: `${props.height}px` }}
      onClick={toggle}
      onFocus={props.onFocus}
      onKeyDown={(event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          toggle();
        }
      }}
    >
      <span role="gridcell" class="cell cell-time num" title={new Date(row.at).toISOString()}>
        {clock(row.at, true)}
      </span>
      <span role="gridcell" class="cell cell-packet mono" title={row.id}>
        {shortId(row.id)}
      </span>
      <span role="gridcell" class="cell cell-from">
        {name(row.peerId)}
      </span>
      <span role="gridcell" class="cell cell-next-hop">
        {row.nextHop === null ? "–" : name(row.nextHop)}
      </span>
      <span role="gridcell" class="cell cell-destination mono" title={row.destination}>
        {row.destination}
      </span>
      <span role="gridcell" class="cell cell-amount">
        <Money value={row.amount} asset={store.assetOf(row.peerId)} />
      </span>
      <span role="gridcell" class="cell cell-sent-on">
        {row.amountOut === null ? <span class="muted">–</span> : <Money value={row.amountOut} asset={store.assetOf(row.nextHop)} />}
      </span>
      <span role="gridcell" class="cell cell-status">
        <StateChip row={row} state={row.state} />
      </span>
      <span role="gridcell" class="cell cell-took num">
        {duration(row.durationMs)}
      </span>
      <span role="gridcell" class="cell cell-answer" title={row.message}>
        {row.state === "rejected" && `${row.message}${row.triggeredBy === "" ? "" : `, by ${row.triggeredBy}`}`}
      </span>
    </div>
  );
}

/** The empty id is this node itself. */
export function name(peerId: string): string {
  return peerId === "" ? "this node" : peerId;
}
