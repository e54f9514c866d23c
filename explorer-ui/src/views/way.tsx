/** One packet over all nodes (`#packets?condition=…`): its hops in order, the time that each took, and what is unknown. */

import { useSignal } from "@preact/signals";
import { scaleLinear } from "d3-scale";
import { useEffect } from "preact/hooks";
import { get } from "../model/api";
import { duration, exact, exactTitle, plural, units } from "../model/format";
import type { Hop, HopAsset, HopsEverywhere } from "../model/types";
import { type Missing, skewInWords, type Stop, type Way, wayOf } from "../model/way";
import { Chip, cls, Empty, Failure, Loading, Panel, useSize } from "../parts/bits";
import { Copy } from "../parts/copy";
import { Icon } from "../parts/icons";
import { failed, goTo, loadNetwork, network, place, setQuery, store } from "../state";

/** A packet in flight is asked for again, so often. */
const AGAIN_MS = 1500;
const AGAIN_MAX = 20;
/** Room for the words of a tick. */
const TICK_PX = 90;

export function WayView(props: { condition: string; packetId: string; at: string }) {
  const { condition, packetId, at } = props;
  const found = useSignal<HopsEverywhere | null>(null);
  const fault = useSignal("");
  const asked = useSignal(0);
  const tries = useSignal(0);

  useEffect(() => {
    let gone = false;
    let timer = 0;
    const load = async () => {
      asked.value += 1;
      try {
        const answer = await get<HopsEverywhere>(`api/v1/network/conditions/${condition}`, { at });
        if (gone) return;
        found.value = answer;
        fault.value = "";
        const isFlying = answer.nodes[0]?.items.some((one) => one.packetId === packetId && one.status === "pending") === true;
        if (isFlying && asked.value < AGAIN_MAX) timer = window.setTimeout(() => void load(), AGAIN_MS);
      } catch (error) {
        if (!gone) fault.value = failed(error);
      }
    };
    asked.value = 0;
    found.value = null;
    void load();
    return () => {
      gone = true;
      window.clearTimeout(timer);
    };
  }, [condition, packetId, at, tries.value]);

  const again = () => {
    fault.value = "";
    tries.value += 1;
  };
  const answer = found.value;
  const way = answer === null ? null : wayOf(answer, packetId);
  return (
    <section class="way" aria-label="One packet over all nodes" data-testid="way">
      <header class="way-head">
        <button
          type="button"
          class="button small"
          onClick={() => {
            setQuery({ condition: "", at: "", way: "" });
          }}
        >
          ← Packets
        </button>
        <h2>One packet over all nodes</h2>
        <span class="way-condition">
          <span class="muted">condition</span> <code class="break">{condition}</code> <Copy text={condition} what="the condition" />
        </span>
      </header>
      {fault.value !== "" ? (
        <Failure message={fault.value} retry={again} />
      ) : answer === null ? (
        <Loading what="what each node has of it" rows={5} />
      ) : way === null ? (
        <Panel title="Nothing is known of it">
          <Empty title="No node that was asked has a packet with this condition">
            Packets that were only counted, and those older than what a node keeps, cannot be followed.
          </Empty>
        </Panel>
      ) : (
        <Shown way={way} configured={answer.configured} again={again} />
      )}
    </section>
  );
}

function Shown(props: { way: Way; configured: boolean; again: () => void }) {
  const { way, configured, again } = props;
  const stops = way.legs.filter((one): one is Stop => one.kind === "stop");
  const total = way.total ?? Math.max(...stops.map((one) => (one.begin ?? 0) + (one.hop.durationMs ?? 0)), 1);
  const x = scaleLinear().domain([0, Math.max(total, 0.01)]).range([0, 100]);
  const [axis, size] = useSize<HTMLSpanElement>();
  return (
    <>
      <Sentence way={way} stops={stops} />
      <Panel
        title={plural(stops.length, "node")}
        aside={
          <>
            {way.legs.length + way.silent.length > stops.length && (
              <button type="button" class="link" onClick={again}>
                Ask again
              </button>
            )}
            <span class="legend tone-sky">
              <span class="swatch" /> in the node
            </span>
            <span class="legend">
              <span class="swatch way-swatch-wait" /> waiting for the next hop
            </span>
          </>
        }
      >
        <div class="scroll-x">
          <table class="way-table">
            <thead>
              <tr>
                <th scope="col">Node</th>
                <th scope="col" class="way-time">
                  <span class="way-axis" ref={axis}>
                    {x.ticks(Math.max(1, Math.min(6, Math.floor(size.width / TICK_PX)))).map((tick) => (
                      <span key={tick} style={{ left: `${x(tick)}%` }}>
                        {tick === 0 ? "0" : duration(tick)}
                      </span>
                    ))}
                  </span>
                  <span class="off-screen">Time</span>
                </th>
                <th scope="col" class="right">
                  Itself
                </th>
                <th scope="col" class="right">
                  In
                </th>
                <th scope="col" class="right">
                  Out
                </th>
                <th scope="col" class="right">
                  Fee
                </th>
                <th scope="col">Outcome</th>
              </tr>
            </thead>
            <tbody>
              {way.legs.map((leg, index) =>
                leg.kind === "stop" ? <StopRows key={leg.key} stop={leg} x={x} before={way.legs[index - 1]} told={leg === stops.at(-1)} /> : <MissingRow key={leg.key} leg={leg} />,
              )}
            </tbody>
          </table>
        </div>
        <Notes way={way} stops={stops} configured={configured} />
      </Panel>
    </>
  );
}

/** All of it in words. */
function Sentence(props: { way: Way; stops: readonly Stop[] }) {
  const { way, stops } = props;
  const first = stops[0];
  const last = stops.at(-1);
  if (first === undefined || last === undefined) return null;
  const { hop } = first;
  const unknown = way.legs.length - stops.length;
  const slowest = stops.length < 2 ? null : [...stops].sort((a, b) => (b.inside ?? 0) - (a.inside ?? 0))[0];
  return (
    <p class="sentence" data-testid="way-sentence">
      <Sum value={hop.amount} asset={hop.assetIn} /> to <code class="break">{hop.destination}</code>:{" "}
      <Outcome hop={hop} /> {way.total !== null && <span class="num">in {duration(way.total)}</span>} over {plural(stops.length, "node")}
      {unknown > 0 && `, and ${unknown} of which nothing is known`}.
      {way.total !== null && stops.length > 1 && (
        <>
          {" "}
          <span class="num">{duration(way.inside)}</span> in the nodes
          {way.between !== null && (
            <>
              , <span class="num">{duration(way.between)}</span> between them
            </>
          )}
          {slowest?.inside !== null && slowest !== undefined && slowest !== null && (
            <>
              ; slowest: {slowest.name}, <span class="num">{duration(slowest.inside)}</span>
            </>
          )}
          .
        </>
      )}
    </p>
  );
}

function Outcome(props: { hop: Hop }) {
  const { hop } = props;
  if (hop.status === "fulfilled") return <Chip kind="ok">fulfilled</Chip>;
  if (hop.status === "pending") return <Chip kind="wait">no answer yet</Chip>;
  return <Chip kind="bad">{hop.code} rejected</Chip>;
}

function Sum(props: { value: string | null; asset: HopAsset | null }) {
  const { value, asset } = props;
  if (value === null) return <span class="muted">–</span>;
  if (asset === null) return <span class="num" title="units of an asset that is not known here">{value}</span>;
  return (
    <span class="num" title={exactTitle(units(value), asset)}>
      {exact(units(value), asset.scale)}
      <span class="unit"> {asset.code}</span>
    </span>
  );
}

type Scale = (value: number) => number;

function StopRows(props: { stop: Stop; x: Scale; before: Way["legs"][number] | undefined; told: boolean }) {
  const { stop, x, before, told } = props;
  const { hop } = stop;
  const isLast = hop.nextHop === null || hop.nextHop === "";
  const skew = skewInWords(stop, duration);
  return (
    <>
      {before !== undefined && (
        <tr class="way-link">
          <td colSpan={7}>
            <span aria-hidden="true">↓</span> {stop.link === null ? "how long the way took is not known" : `${duration(stop.link)} there and back`}
            {before.kind === "missing" && stop.link !== null && `, with all that ${before.name} took`}
            {!stop.named && " · taken for the next hop by amount and destination: it has another name"}
          </td>
        </tr>
      )}
      <tr class={cls("way-row", hop.status === "rejected" && "way-bad")} data-testid="way-stop" data-node={stop.name}>
        <th scope="row">
          <Who stop={stop} />
          {skew !== "" && <small class="way-skew">{skew}</small>}
        </th>
        <td class="way-time">
          <Bar stop={stop} x={x} />
        </td>
        <td class="right num" data-label="Itself" data-testid="way-inside">
          {duration(stop.inside)}
        </td>
        <td class="right" data-label="In">
          <Sum value={hop.amount} asset={hop.assetIn} />
        </td>
        <td class="right" data-label="Out">
          {isLast ? <span class="muted">{hop.nextHop === "" && hop.status === "fulfilled" ? "received" : "–"}</span> : <Sum value={hop.amountOut} asset={hop.assetOut} />}
        </td>
        <td class="right" data-label="Fee">
          {hop.fee === null || hop.fee === "0" ? <span class="muted">{hop.fee === null ? "–" : "none"}</span> : <Sum value={hop.fee} asset={hop.assetIn} />}
        </td>
        <td data-label="Outcome">
          <Outcome hop={hop} />
          {told && hop.status === "rejected" && hop.message !== null && hop.message !== "" && (
            <small class="muted break">
              {" "}
              “{hop.message}”{hop.triggeredBy !== null && hop.triggeredBy !== "" && `, by ${hop.triggeredBy}`}
            </small>
          )}
          {hop.ways.length > 1 && <small class="muted"> after {hop.ways.slice(0, -1).join(", ")} had refused it</small>}
        </td>
      </tr>
    </>
  );
}

/** A node, with the way to the packet there. */
function Who(props: { stop: Stop }) {
  const { stop } = props;
  if (stop.url === "") {
    return (
      <button
        type="button"
        class="link strong"
        title="Its story at this node"
        onClick={() => {
          setQuery({ packet: stop.hop.packetId });
        }}
      >
        {stop.name} <span class="muted">this node</span>
      </button>
    );
  }
  return (
    <a class="link strong" href={`${stop.url}/#packets?packet=${stop.hop.packetId}`} target="_blank" rel="noopener" title="Its story at that node">
      {stop.name} <Icon name="link" />
    </a>
  );
}

/** When it was there: its own time before and after it waited for its next hop. */
function Bar(props: { stop: Stop; x: Scale }) {
  const { stop, x } = props;
  const { hop, begin, waited } = stop;
  if (begin === null || hop.durationMs === null) return <span class="way-none muted">{hop.durationMs === null ? "no answer yet" : "when is not known"}</span>;
  const there = hop.forwardedMs ?? hop.durationMs;
  const back = there + (waited ?? 0);
  const box = (from: number, to: number) => ({ left: `${x(begin + from)}%`, width: `${Math.max(0, x(to) - x(from))}%` });
  const steps = [
    ["reserved", hop.reservedMs],
    ["forwarded", hop.forwardedMs],
    ["answered", hop.answeredMs],
    ["posted", hop.postedMs],
    [hop.status, hop.durationMs],
  ] as const;
  const words = steps.filter(([, ms]) => ms !== null).map(([step, ms]) => `${step} after ${duration(ms)}`);
  return (
    <span class="way-bar" role="img" aria-label={words.join(", ")} title={words.join("\n")}>
      <span class="way-part way-own" style={box(0, there)} />
      {hop.forwardedMs !== null && <span class="way-part way-wait" style={box(there, back)} />}
      {hop.forwardedMs !== null && <span class="way-part way-own" style={box(back, hop.durationMs)} />}
      <span class={cls("way-end", hop.status === "fulfilled" ? "way-good" : "way-fail")} style={{ left: `${x(begin + hop.durationMs)}%` }} />
    </span>
  );
}

function MissingRow(props: { leg: Missing }) {
  const { leg } = props;
  return (
    <tr class="way-row way-missing" data-testid="way-missing" data-node={leg.name}>
      <th scope="row">{leg.name}</th>
      <td colSpan={6}>
        <span class="way-ghost">{leg.why}</span>
      </td>
    </tr>
  );
}

function Notes(props: { way: Way; stops: readonly Stop[]; configured: boolean }) {
  const { way, stops, configured } = props;
  const { packet, condition } = place.value.query;
  const notes: string[] = [];
  if (!configured) notes.push("Only this node was asked: EXPLORER_NODES names no others.");
  for (const one of way.silent) notes.push(`${one.name} could not be asked: ${one.error}. It may be on the way.`);
  if (way.others > 0 || way.more) {
    notes.push(
      `${way.more ? `More than ${plural(way.others, "other packet")}` : plural(way.others, "other packet")} with the same condition, as pings have it and packets that are sent again: of them, those that fit best in amount, destination and time are shown.`,
    );
  }
  if (stops.length > 1) {
    notes.push("Each node tells times by its own clock. Bars stand in the middle of the time for which the hop before waited: how it is divided between there and back is not known.");
  }
  return (
    <div class="way-notes">
      <ul>
        {notes.map((note) => (
          <li key={note}>{note}</li>
        ))}
      </ul>
      {packet === undefined && stops.some((one) => one.url === "") && condition !== undefined && (
        <button
          type="button"
          class="link"
          onClick={() => {
            setQuery({ packet: stops.find((one) => one.url === "")?.hop.packetId ?? "" });
          }}
        >
          Its story at {store.status.value?.nodeId ?? "this node"}
        </button>
      )}
    </div>
  );
}

/** From the story of a packet to its way. */
export function WayButton(props: { condition: string | null; packetId: string; receivedAt: string | null }) {
  const { condition, packetId, receivedAt } = props;
  const known = network.value;
  useEffect(() => {
    if (network.peek() === null) void loadNetwork();
  }, []);
  if (condition === null) return <p class="muted">Its condition is not known: it cannot be followed over other nodes.</p>;
  if (known !== null && !known.configured) return null;
  return (
    <button
      type="button"
      class="button way-button"
      data-testid="follow"
      onClick={() => {
        goTo("packets", { condition, way: packetId, at: receivedAt === null ? "" : String(Date.parse(receivedAt)) });
      }}
    >
      <Icon name="way" /> Follow it over {known === null ? "all" : plural(known.nodes.length, "node")}
    </button>
  );
}
