/** The log of the node: what operators, links, settlements, warnings and the books did, kept for long; searched, and exported. */

import { useEffect, useRef, useState } from "preact/hooks";
import { alertFields, alertName } from "../model/alerts";
import { get, withSearch } from "../model/api";
import { clock, count, dateClock, plural } from "../model/format";
import { inOrder } from "../model/inbox";
import type { AlertEvent, LogEvent, LogPage } from "../model/types";
import { Chip, cls, Empty, Failure, Loading, Panel, Segments } from "../parts/bits";
import { Copy } from "../parts/copy";
import { failed, goTo, now, place, setQuery, store } from "../state";
import { toneOf } from "./happened";

const GROUPS: readonly (readonly [string, string])[] = [
  ["", "all"],
  ["operator", "operators"],
  ["settlement", "settlements"],
  ["alert", "warnings"],
  ["link", "links"],
  ["books", "books"],
  ["node", "node"],
];
const PAGE = 100;
/** So many are drawn; who wants more asks for less, or for a file. */
const SHOWN_MAX = 600;
const TYPED_MS = 250;

interface Filter {
  readonly type: string;
  readonly peer: string;
  readonly text: string;
}

interface Found {
  /** Of which filter this is, as text. */
  readonly of: string;
  readonly items: readonly LogEvent[];
  readonly next: string | number | null;
  readonly fault: string;
  readonly notKept: number;
  readonly error: string;
  readonly busy: boolean;
}

const NOTHING: Found = { of: "", items: [], next: null, fault: "", notKept: 0, error: "", busy: true };

function useLog(filter: Filter) {
  const [found, setFound] = useState<Found>(NOTHING);
  const key = JSON.stringify(filter);
  const current = useRef(key);
  current.current = key;

  const ask = async (cursor: string | number | null, merge: (before: Found, page: LogPage) => Pick<Found, "items" | "next">) => {
    setFound((before) => ({ ...(before.of === key ? before : { ...NOTHING, items: before.items }), of: before.of === key ? key : before.of, busy: true }));
    try {
      let at = cursor;
      let page: LogPage;
      let gathered: readonly LogEvent[] = [];
      // With a text a page may be empty and there be more: only at the end has all been looked at.
      do {
        page = await get<LogPage>("api/v1/log", { ...filter, limit: PAGE, cursor: at });
        if (current.current !== key) return;
        gathered = [...gathered, ...page.items];
        at = page.next;
      } while (gathered.length === 0 && at !== null);
      const whole = { ...page, items: gathered };
      setFound((before) => {
        const same = before.of === key ? before : { ...NOTHING, of: key };
        return { ...same, ...merge(same, whole), fault: page.fault, notKept: page.notKept, error: "", busy: false, of: key };
      });
    } catch (error) {
      if (current.current === key) setFound((before) => ({ ...before, of: key, error: failed(error), busy: false }));
    }
  };

  const first = () => ask(null, (before, page) => {
    const oldest = page.items.at(-1)?.seq ?? 0;
    const older = before.items.filter((one) => one.seq < oldest);
    // What was looked back to stays, unless there is a hole between.
    const joins = before.items.some((one) => one.seq >= oldest);
    return joins ? { items: [...page.items, ...older], next: older.length > 0 ? before.next : page.next } : { items: page.items, next: page.next };
  }); // prettier-ignore
  const older = () => ask(found.next, (before, page) => ({ items: [...before.items, ...page.items], next: page.next }));

  const news = store.incidents.value[0]?.seq ?? 0;
  useEffect(() => {
    const timer = window.setTimeout(() => void first(), found.of === "" ? 0 : TYPED_MS);
    return () => {
      window.clearTimeout(timer);
    };
  }, [key, news]);
  return { ...found, isOf: found.of === key, first, older };
}

export function Log() {
  const { query } = place.value;
  const group = GROUPS.some(([id]) => id === query["group"]) ? (query["group"] ?? "") : "";
  const filter = { type: group, peer: query["peer"] ?? "", text: (query["q"] ?? "").trim() };
  const log = useLog(filter);
  const shown = log.items.slice(0, SHOWN_MAX);
  const isFiltered = group !== "" || filter.peer !== "" || filter.text !== "";
  const file = (format: string) => withSearch("api/v1/log", { ...filter, format });
  return (
    <div class="log-page">
      <div class="filters" role="search" aria-label="Filter the log">
        <input
          class="input grow"
          type="search"
          placeholder="Any text in an event …"
          aria-label="Text"
          value={query["q"] ?? ""}
          onInput={(event) => {
            setQuery({ q: event.currentTarget.value });
          }}
        />
        <select
          class="input"
          aria-label="Peer"
          value={filter.peer}
          onChange={(event) => {
            setQuery({ peer: event.currentTarget.value });
          }}
        >
          <option value="">all peers</option>
          {[...store.peers.value].sort((a, b) => inOrder(a.peerId, b.peerId)).map((peer) => (
            <option key={peer.peerId} value={peer.peerId}>
              {peer.peerId}
            </option>
          ))}
        </select>
        <Segments
          label="Kind"
          options={GROUPS}
          chosen={group}
          onChoose={(id) => {
            setQuery({ group: id });
          }}
        />
      </div>
      <Panel
        title="Log"
        aside={
          <>
            <span class="muted" data-testid="log-count">
              {`${plural(shown.length, "event")}${log.isOf && log.next === null ? (isFiltered ? " that fit" : "") : ", the newest"}`}
            </span>
            <a class="link" href={file("csv")} download={`log-${store.status.value?.nodeId ?? ""}.csv`}>
              CSV
            </a>
            <a class="link" href={file("jsonl")} download={`log-${store.status.value?.nodeId ?? ""}.jsonl`}>
              JSON lines
            </a>
          </>
        }
      >
        {log.fault !== "" && <p class="notice notice-warn">Nothing is kept at the moment: {log.fault}</p>}
        {log.error !== "" ? (
          <Failure message={log.error} retry={() => void log.first()} />
        ) : shown.length === 0 && !(log.isOf && !log.busy) ? (
          <Loading what="the log" rows={6} />
        ) : shown.length === 0 ? (
          <Empty title={isFiltered ? "No event fits" : "Nothing has happened yet"}>{isFiltered ? "All that is kept was looked at." : "Links, settlements, warnings and what operators do appear here."}</Empty>
        ) : (
          <>
            <ul class={cls("events", !log.isOf && "drawer-stale")} data-testid="log">
              {shown.map((event) => (
                <Line key={event.seq} event={event} />
              ))}
            </ul>
            <p class="table-foot">
              {log.busy && log.isOf && log.items.length > 0 && log.next !== null ? (
                "Looking further back …"
              ) : log.items.length >= SHOWN_MAX ? (
                `The newest ${count(SHOWN_MAX)} are shown: filter, or take all of it as a file.`
              ) : log.next !== null ? (
                <button type="button" class="link" onClick={() => void log.older()}>
                  Look further back
                </button>
              ) : (
                "Nothing older is kept."
              )}
              {log.notKept > 0 && ` ${plural(log.notKept, "event")} since the start ${log.notKept === 1 ? "was" : "were"} not kept: links that flap, or a disk that failed.`}
            </p>
          </>
        )}
      </Panel>
    </div>
  );
}

function Line(props: { event: LogEvent }) {
  const { event } = props;
  const [open, setOpen] = useState(false);
  const at = Date.parse(event.timestamp);
  const isToday = new Date(at).toDateString() === new Date(now.value).toDateString();
  const peer = event.peerId ?? "";
  return (
    <li class="event" data-type={event.type}>
      <span class="event-time num muted" title={event.timestamp}>
        {isToday ? clock(at) : dateClock(at)}
      </span>
      <span class="event-kind">
        <Chip kind={toneOf(event.type)}>{event.type === "ALERT" ? (event as unknown as AlertEvent).level : event.type.toLowerCase().replaceAll("_", " ")}</Chip>
      </span>
      <span class="event-said">{event.type === "ALERT" ? <Warned alert={event as unknown as AlertEvent} /> : event.said}</span>
      <span class="event-tools">
        {peer !== "" && store.peers.value.some((one) => one.peerId === peer) && (
          <button
            type="button"
            class="link"
            onClick={() => {
              goTo("peers", { peer });
            }}
          >
            {peer}
          </button>
        )}
        <button
          type="button"
          class="link"
          aria-expanded={open}
          aria-label={`${open ? "Close" : "Open"} event ${event.seq}`}
          onClick={() => {
            setOpen(!open);
          }}
        >
          {open ? "close" : "all of it"}
        </button>
      </span>
      {open && (
        <div class="event-whole">
          <pre tabIndex={0}>{JSON.stringify(event, null, 1)}</pre>
          <Copy text={JSON.stringify(event)} what="the event" />
        </div>
      )}
    </li>
  );
}

/** A warning: its name, and each field of its detail. */
function Warned(props: { alert: AlertEvent }) {
  const { alert } = props;
  const fields = alertFields(alert.detail);
  return (
    <>
      <b>{alertName(alert.name)}</b>
      {alert.suppressed > 0 && <span class="muted"> and {count(alert.suppressed)} more before it</span>}
      {fields.map(([key, value]) => (
        <span key={key} class="event-field">
          {key !== "" && <span class="muted">{key}</span>} {value}
        </span>
      ))}
    </>
  );
}
