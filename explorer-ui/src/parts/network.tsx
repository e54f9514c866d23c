/** The network: who is linked to whom, what passes, what both sides book, and who is silent. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { balance, count, exactTitle, span } from "../model/format";
import { type Layout, layoutOf } from "../model/layout";
import { drawn, type Memory, type NetLink, type NetNode, type NetPicture, NO_MEMORY, pictureOf } from "../model/network";
import { formatPlace } from "../model/url";
import { differing } from "../situation";
import { loadNetwork, network, now, store } from "../state";
import { Chip, cls, Panel, useEvery, useSize } from "./bits";
import { LinkTable } from "./links";
import { linkWords, nameOf, STATES, VERDICTS } from "./linkwords";

const REFRESH_MS = 2000;
const NODES_DRAWN_MAX = 40;
/** So many links have their words beside them; of more only those of the node that is pointed at. */
const LABELLED_MAX = 7;

export function NetworkPanel() {
  const before = useRef<Memory>(NO_MEMORY);
  const last = useRef<{ from: unknown; picture: NetPicture } | null>(null);
  const [lit, setLit] = useState("");
  useEvery(loadNetwork, REFRESH_MS);
  const value = network.value;
  if (value === null) return null;
  if (last.current?.from !== value) {
    const { picture, memory } = pictureOf(value, before.current);
    before.current = memory;
    last.current = { from: value, picture };
    const found = picture.links.filter((link) => link.verdict === "differs").map((link) => `${nameOf(picture, link.a)} and ${nameOf(picture, link.b)}`);
    if (found.join() !== differing.peek().join()) queueMicrotask(() => (differing.value = found));
  }
  const whole = last.current.picture;
  if (whole.nodes.length < 2 && whole.unheard.length === 0) return null;
  const picture = drawn(whole, NODES_DRAWN_MAX);
  const self = whole.nodes.find((node) => node.kind === "self")?.key ?? "";
  return <Network whole={whole} picture={picture} self={self} lit={lit} onLit={setLit} />;
}

function Network(props: { whole: NetPicture; picture: NetPicture; self: string; lit: string; onLit: (key: string) => void }) {
  const { whole, picture, self } = props;
  // Of those who are there, not of those who answer: nothing moves when a node dies.
  const layout = useMemo(
    () => layoutOf(picture.nodes.map((one) => one.key), picture.links.map((one) => [one.a, one.b] as const), self),
    [picture.shape, self],
  );
  const told = layout.kind === "line" && picture === whole;
  return (
    <Panel title="Network" id="network" aside={<Summary picture={whole} />}>
      <div class={cls("net-hero", !told && "net-with-table")}>
        <Picture picture={picture} layout={layout} self={self} lit={props.lit} onLit={props.onLit} />
        {!told && <LinkTable picture={whole} self={self} lit={props.lit} onLit={props.onLit} />}
      </div>
      {(whole.nodes.length > picture.nodes.length || whole.unheard.length > 0) && (
        <p class="chart-say">
          {whole.nodes.length > picture.nodes.length && `${count(whole.nodes.length - picture.nodes.length)} more peers are in the list only. `}
          {whole.unheard.slice(0, 8).map(({ url, error }) => (
            <span key={url} title={error}>
              {url} has not answered yet.{" "}
            </span>
          ))}
        </p>
      )}
    </Panel>
  );
}

function Summary(props: { picture: NetPicture }) {
  const { nodes, links } = props.picture;
  const wrong = links.filter((link) => link.verdict === "differs").length;
  const silent = nodes.filter((node) => node.error !== "").length;
  const down = links.filter((link) => link.state === "down").length;
  const settling = links.filter((link) => link.settlement !== null).length;
  const compared = links.some((link) => link.verdict === "mirrored");
  return (
    <>
      {settling > 0 && <Chip kind="busy">{settling === 1 ? "1 settlement open" : `${settling} settlements open`}</Chip>}
      {silent > 0 && <Chip kind="warn">{silent} not answering</Chip>}
      {down > 0 && <Chip kind="bad">{down === 1 ? "1 link down" : `${down} links down`}</Chip>}
      {wrong > 0 ? (
        <Chip kind="bad">{wrong === 1 ? "books of 1 link differ" : `books of ${wrong} links differ`}</Chip>
      ) : (
        compared && <span class="muted">all books agree</span>
      )}
    </>
  );
}

interface Spot {
  readonly x: number;
  readonly y: number;
}

interface Drawing {
  readonly spots: ReadonlyMap<string, Spot>;
  readonly height: number;
  readonly vertical: boolean;
  readonly radius: number;
}

/** Of the dashes that move along a link, px. */
const DASH = 16;
const FLOW_MS = 200;
/** For one dash, ms. */
const PERIODS: Readonly<Record<string, number>> = { "net-slow": 2600, "net-fast": 800, "net-racing": 450 };
const PERIOD = 1400;

/**
 * What passes moves, in a few steps a second: an animation of the browser would be drawn 60 times a second, which costs a
 * page that is open all day more than everything else on it.
 */
function useFlow(box: { readonly current: HTMLDivElement | null }): void {
  useEffect(() => {
    if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const timer = window.setInterval(() => {
      if (document.hidden) return;
      const at = performance.now();
      box.current?.querySelectorAll<SVGLineElement>(".net-flow").forEach((line) => {
        const pace = Object.keys(PERIODS).find((name) => line.classList.contains(name));
        const period = PERIODS[pace ?? ""] ?? PERIOD;
        line.style.strokeDashoffset = (-DASH * ((at / period) % 1)).toFixed(1);
      });
    }, FLOW_MS);
    return () => {
      window.clearInterval(timer);
    };
  }, []);
}

function Picture(props: { picture: NetPicture; layout: Layout; self: string; lit: string; onLit: (key: string) => void }) {
  const { picture, layout, self, lit } = props;
  const [ref, size] = useSize<HTMLDivElement>();
  const drawing = useMemo(() => drawingOf(layout, size.width), [layout, size.width]);
  const { spots, height, radius, vertical } = drawing;
  const few = picture.links.length <= LABELLED_MAX;
  // Where links meet: at the node that is pointed at, or at the one in the middle.
  const nearOf = (link: NetLink) => {
    if (lit === link.a || lit === link.b) return lit === link.a ? "a" : "b";
    const far = (key: string) => Math.hypot((layout.places.get(key)?.x ?? 0.5) - 0.5, (layout.places.get(key)?.y ?? 0.5) - 0.5);
    const [a, b] = [far(link.a), far(link.b)];
    return Math.abs(a - b) < 0.05 ? null : a < b ? "a" : "b";
  };
  const isLit = (link: NetLink) => lit === link.key || lit === link.a || lit === link.b;
  useFlow(ref);
  return (
    <div class="network" ref={ref}>
      {size.width > 0 && (
        <svg
          width={size.width}
          height={height}
          viewBox={`0 0 ${size.width} ${height}`}
          role="group"
          aria-label={inWords(picture)}
          class={cls(lit !== "" && "net-pointed")}
          data-layout={layout.kind}
          onPointerLeave={() => {
            props.onLit("");
          }}
        >
          {picture.links.map((link) => {
            const a = spots.get(link.a);
            const b = spots.get(link.b);
            return a === undefined || b === undefined ? null : (
              <LinkLine
                key={link.key}
                link={link}
                a={a}
                b={b}
                radius={radius}
                vertical={vertical}
                self={self}
                names={(key) => nameOf(picture, key)}
                near={nearOf(link)}
                lit={isLit(link)}
                words={few || isLit(link)}
                ring={layout.kind === "ring"}
                onPoint={() => {
                  props.onLit(link.key);
                }}
              />
            );
          })}
          {picture.nodes.map((node) => {
            const spot = spots.get(node.key);
            const touched = lit === "" || lit === node.key || picture.links.some((link) => isLit(link) && (link.a === node.key || link.b === node.key));
            return spot === undefined ? null : (
              <NodeMark
                key={node.key}
                node={node}
                spot={spot}
                radius={radius}
                vertical={vertical}
                above={layout.places.get(node.key)?.above === true}
                dim={!touched}
                onPoint={(on) => {
                  props.onLit(on ? node.key : "");
                }}
              />
            );
          })}
        </svg>
      )}
    </div>
  );
}

function drawingOf(layout: Layout, width: number): Drawing {
  const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 14;
  const count = layout.order.length;
  const spots = new Map<string, Spot>();
  if (layout.kind === "line") {
    const radius = rem * 1.35;
    if (width >= count * rem * 11) {
      for (const [key, at] of layout.places) spots.set(key, { x: at.x * width, y: rem * 3.4 });
      return { spots, height: rem * 9, vertical: false, radius };
    }
    for (const [index, key] of layout.order.entries()) spots.set(key, { x: rem * 2.6, y: rem * (2.4 + index * 7.4) });
    return { spots, height: rem * (4.8 + (count - 1) * 7.4), vertical: true, radius };
  }
  const narrow = width < rem * 42;
  const radius = rem * (count <= 8 ? 1.25 : count <= 16 ? 1 : 0.75);
  const height = narrow ? Math.max(width * 1.1, Math.min(rem * 60, rem * 4.6 * count)) : Math.max(rem * 24, Math.min(rem * 40, width * 0.62, rem * (18 + count * 1.6)));
  const [padX, padY] = [rem * (narrow ? 3.6 : 6), rem * 4.4];
  for (const [key, at] of layout.places) spots.set(key, { x: padX + at.x * (width - 2 * padX), y: padY + at.y * (height - 2 * padY) });
  return { spots, height, vertical: false, radius };
}

function pace(rate: number): string {
  return rate < 1 ? "net-slow" : rate < 10 ? "net-mid" : rate < 100 ? "net-fast" : "net-racing";
}

interface LineProps {
  readonly link: NetLink;
  readonly a: Spot;
  readonly b: Spot;
  readonly radius: number;
  readonly vertical: boolean;
  readonly self: string;
  readonly names: (key: string) => string;
  readonly lit: boolean;
  readonly words: boolean;
  readonly ring: boolean;
  /** The end that its words keep away from: where many links meet. */
  readonly near: "a" | "b" | null;
  readonly onPoint: () => void;
}

/** Where the words of a link stand in a ring: away from where the links meet. */
function ringSpot({ a, b, near }: LineProps): Spot {
  const part = near === null ? 0.5 : near === "a" ? 0.66 : 0.34;
  return { x: a.x + (b.x - a.x) * part, y: a.y + (b.y - a.y) * part };
}

/** What both sides book, below each other with their names, and what is not as usual. */
function RingLabel(props: { link: NetLink; self: string; names: (key: string) => string; at: Spot }) {
  const { link, names, at } = props;
  const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 14;
  const asset = { code: link.code, scale: link.scale };
  const even = link.netAtA === 0n && (link.netAtB ?? 0n) === 0n;
  const quiet = link.verdict === "mirrored" || link.verdict === "not asked" || link.verdict === "in motion";
  const said = linkWords(quiet ? { ...link, verdict: "not asked" } : link, props.self);
  const books = even
    ? []
    : [
        { key: link.a, net: link.netAtA, stale: link.staleA },
        { key: link.b, net: link.netAtB, stale: link.staleB },
      ].filter((one): one is { key: string; net: bigint; stale: number | null } => one.net !== null);
  const lines = books.length + (said === "" ? 0 : 1);
  const y = (index: number) => at.y + (index - (Math.max(1, lines) - 1) / 2) * rem * 1.05;
  return (
    <>
      {even && said === "" && (
        <text class="net-label even" x={at.x} y={at.y} text-anchor="middle" dy="0.32em">
          even
        </text>
      )}
      {books.map(({ key, net, stale }, index) => (
        <text key={key} class={cls("net-label num", net > 0n ? "owed" : net < 0n ? "owing" : "even", stale !== null && "net-stale")} x={at.x} y={y(index)} text-anchor="middle" dy="0.32em">
          <title>{exactTitle(net, asset)}</title>
          {`${names(key)} ${balance(net, link.scale, true)} ${link.code}`}
        </text>
      ))}
      {said !== "" && (
        <text class="net-verdict" x={at.x} y={y(books.length)} text-anchor="middle" dy="0.32em">
          {said}
        </text>
      )}
    </>
  );
}

function LinkLine(props: LineProps) {
  const { link, radius, vertical } = props;
  // Drawn from left to right, so that each side's number stands at its own end.
  const swap = props.a.x > props.b.x || (props.a.x === props.b.x && props.a.y > props.b.y);
  const [p, q] = swap ? [props.b, props.a] : [props.a, props.b];
  const [netP, netQ] = swap ? [link.netAtB, link.netAtA] : [link.netAtA, link.netAtB];
  const [staleP, staleQ] = swap ? [link.staleB, link.staleA] : [link.staleA, link.staleB];
  const length = Math.hypot(q.x - p.x, q.y - p.y) || 1;
  const dx = ((q.x - p.x) / length) * radius * 1.3;
  const dy = ((q.y - p.y) / length) * radius * 1.3;
  const at = (part: number): Spot => ({ x: p.x + dx + (q.x - p.x - 2 * dx) * part, y: p.y + dy + (q.y - p.y - 2 * dy) * part });
  const middle = at(0.5);
  const rate = link.state === "up" || link.state === "unknown" ? (link.rate ?? 0) : 0;
  const width = Math.min(9, 1.5 + 2.3 * Math.log10(1 + rate));
  const [start, end] = link.forth !== swap ? [at(0), at(1)] : [at(1), at(0)];
  const label = (net: bigint | null, stale: number | null, spot: Spot, anchor: string, shift: Spot) =>
    net === null ? null : (
      <text
        class={cls("net-label num", net > 0n ? "owed" : net < 0n ? "owing" : "even", stale !== null && "net-stale")}
        x={spot.x + shift.x}
        y={spot.y + shift.y}
        text-anchor={anchor}
        dy="0.32em"
      >
        <title>{exactTitle(net, { code: link.code, scale: link.scale })}{stale === null ? "" : ", as it was told last"}</title>
        {`${balance(net, link.scale, true)} ${link.code}`}
      </text>
    );
  const words = linkWords(link, props.self);
  const line = { x1: start.x, y1: start.y, x2: end.x, y2: end.y };
  const off = radius * 0.75;
  return (
    <g
      class={cls("net-link", `net-${link.verdict.replace(" ", "-")}`, `net-${link.state}`, link.settlement !== null && "net-open", props.lit && "net-lit")}
      data-verdict={link.verdict}
      data-state={link.state}
      data-settlement={link.settlement?.state ?? "none"}
      data-rate={link.rate === null ? "" : link.rate.toFixed(1)}
      onPointerEnter={props.onPoint}
    >
      <line class="net-hit" {...line} />
      <line class="net-way" {...line} stroke-width={width} />
      {rate > 0 && <line class={cls("net-flow", pace(rate))} {...line} stroke-width={Math.max(1.5, width * 0.55)} />}
      {link.settlement !== null && <rect class="net-coin" x={-radius * 0.3} y={-radius * 0.3} width={radius * 0.6} height={radius * 0.6} transform={`translate(${middle.x} ${middle.y}) rotate(45)`} />}
      {props.words &&
        (vertical ? (
          <>
            {label(netP, staleP, at(0.16), "start", { x: radius, y: 0 })}
            {label(netQ, staleQ, at(0.84), "start", { x: radius, y: 0 })}
            <text class="net-verdict" x={middle.x + radius} y={middle.y} dy="0.32em">
              {words}
            </text>
          </>
        ) : props.ring ? (
          <RingLabel link={link} self={props.self} names={props.names} at={ringSpot(props)} />
        ) : (
          <>
            {label(netP, staleP, at(0.03), "start", { x: 0, y: -off })}
            {label(netQ, staleQ, at(0.97), "end", { x: 0, y: off })}
            <text class="net-verdict" x={middle.x} y={middle.y + radius * 1.75} text-anchor="middle" dy="0.32em">
              {words}
            </text>
          </>
        ))}
    </g>
  );
}

/** How a node is, in few words. */
function noteOf(node: NetNode): string {
  if (node.kind === "self") return node.health === "healthy" ? "this node" : `this node, ${node.health}`;
  if (node.kind === "peer") return node.health === "up" ? "peer" : node.health === "away" ? "away, expected" : node.health === "down" ? "down" : "peer, not known";
  if (!node.ghost) return node.health === "healthy" ? node.address : node.health;
  if (node.heardAt === null) return "not answering";
  return `silent for ${span((now.value + store.skewMs - node.heardAt) / 1000)}`;
}

function NodeMark(props: { node: NetNode; spot: Spot; radius: number; vertical: boolean; above: boolean; dim: boolean; onPoint: (on: boolean) => void }) {
  const { node, spot, radius, vertical } = props;
  const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 14;
  const text = vertical
    ? { x: radius * 1.5, y: -radius * 0.3, anchor: "start" }
    : { x: 0, y: props.above ? -radius - rem * 1.6 : radius + rem * 1.25, anchor: "middle" };
  const note = noteOf(node);
  const body = (
    <g
      transform={`translate(${spot.x} ${spot.y})`}
      class={cls("net-node", `net-${node.health}`, `net-kind-${node.kind}`, node.ghost && "net-ghost", props.dim && "net-dim")}
      data-node={node.key}
      data-ghost={node.ghost}
    >
      <title>{node.error === "" ? `${node.id} ${node.address}: ${node.health}` : `${node.url}: ${node.error}`}</title>
      <circle r={node.kind === "peer" ? radius * 0.8 : radius} />
      <circle class="net-core" r={radius * (node.kind === "peer" ? 0.3 : 0.42)} />
      <text x={text.x} y={text.y} text-anchor={text.anchor} class="net-name">
        {node.id.length > 20 ? `${node.id.slice(0, 19)}…` : node.id}
      </text>
      <text x={text.x} y={text.y + rem * 1.1} text-anchor={text.anchor} class="net-note">
        {note.length > 26 ? `${note.slice(0, 25)}…` : note}
      </text>
    </g>
  );
  const point = {
    onPointerEnter: () => {
      props.onPoint(true);
    },
    onFocus: () => {
      props.onPoint(true);
    },
    onBlur: () => {
      props.onPoint(false);
    },
  };
  if (node.ours) {
    return (
      <a href={formatPlace({ tab: "peers", query: { peer: node.key } })} aria-label={`Show the peer ${node.id}, ${note}`} {...point}>
        {body}
      </a>
    );
  }
  return node.kind === "node" && !node.ghost ? (
    <a href={node.url} target="_blank" rel="noopener" aria-label={`Open the page of ${node.id}`} {...point}>
      {body}
    </a>
  ) : (
    <g onPointerEnter={point.onPointerEnter}>{body}</g>
  );
}

function inWords(picture: NetPicture): string {
  const links = picture.links.slice(0, 60).map((link) => `${nameOf(picture, link.a)} and ${nameOf(picture, link.b)}: ${STATES[link.state] || VERDICTS[link.verdict]}`);
  return `${picture.nodes.length} nodes. ${links.join("; ")}`;
}
