/** The picture of several nodes: who is linked to whom, and what each side books. */

import { useRef } from "preact/hooks";
import { balance, exactTitle } from "../model/format";
import { lineOf, type NetLink, type NetNode, type NetPicture, pictureOf, type Verdict } from "../model/network";
import { differing } from "../situation";
import { loadNetwork, network, store } from "../state";
import { Chip, cls, Panel, useEvery, useSize } from "./bits";

const REFRESH_MS = 2000;

export function NetworkPanel() {
  const before = useRef(new Map<string, string>());
  const last = useRef<{ from: unknown; picture: NetPicture } | null>(null);
  useEvery(loadNetwork, REFRESH_MS);
  const value = network.value;
  if (value === null || !value.configured || value.nodes.length < 2) return null;
  if (last.current?.from !== value) {
    const { picture, still } = pictureOf(value, before.current);
    before.current = still;
    last.current = { from: value, picture };
    const found = picture.links.filter((link) => link.verdict === "differs").map((link) => `${link.a} and ${link.b}`);
    if (found.join() !== differing.peek().join()) queueMicrotask(() => (differing.value = found));
  }
  const { picture } = last.current;
  const wrong = picture.links.filter((link) => link.verdict === "differs").length;
  const silent = picture.nodes.filter((node) => node.error !== "").length;
  return (
    <Panel
      title="Network"
      id="network"
      aside={
        <>
          {silent > 0 && <Chip kind="warn">{silent} not answering</Chip>}
          {wrong > 0 ? (
            <Chip kind="bad">{wrong === 1 ? "books of 1 link differ" : `books of ${wrong} links differ`}</Chip>
          ) : (
            picture.links.length > 0 && <Chip kind="ok">all books agree</Chip>
          )}
        </>
      }
    >
      <Picture picture={picture} />
    </Panel>
  );
}

interface Spot {
  readonly x: number;
  readonly y: number;
}

function Picture(props: { picture: NetPicture }) {
  const { picture } = props;
  const [ref, size] = useSize<HTMLDivElement>();
  const { spots, height, vertical, radius } = layout(picture, size.width);
  const self = store.status.value?.nodeId;
  return (
    <div class="network" ref={ref}>
      {size.width > 0 && (
        <svg width={size.width} height={height} viewBox={`0 0 ${size.width} ${height}`} role="group" aria-label={inWords(picture)}>
          {picture.links.map((link) => {
            const a = spots.get(link.a);
            const b = spots.get(link.b);
            return a === undefined || b === undefined ? null : (
              <LinkLine key={link.key} link={link} a={a} b={b} radius={radius} vertical={vertical} />
            );
          })}
          {picture.nodes.map((node) => {
            const spot = spots.get(node.id);
            return spot === undefined ? null : <NodeMark key={node.id} node={node} spot={spot} radius={radius} self={node.id === self} vertical={vertical} />;
          })}
        </svg>
      )}
    </div>
  );
}

function layout(picture: NetPicture, width: number) {
  const spots = new Map<string, Spot>();
  const count = picture.nodes.length;
  const line = lineOf(picture);
  const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 14;
  const radius = rem * 1.35;
  if (line !== null && width >= count * rem * 11) {
    const step = width / count;
    for (const [index, id] of line.entries()) spots.set(id, { x: step * (index + 0.5), y: rem * 3.4 });
    return { spots, height: rem * 9, vertical: false, radius };
  }
  if (line !== null) {
    for (const [index, id] of line.entries()) spots.set(id, { x: rem * 2.6, y: rem * (2.4 + index * 7.4) });
    return { spots, height: rem * (4.8 + (count - 1) * 7.4), vertical: true, radius };
  }
  const height = Math.max(rem * 24, Math.min(width * 0.6, rem * 40));
  for (const [index, node] of picture.nodes.entries()) {
    const angle = (index / count) * 2 * Math.PI - Math.PI / 2;
    spots.set(node.id, {
      x: width / 2 + Math.cos(angle) * (width / 2 - rem * 7),
      y: height / 2 - rem + Math.sin(angle) * (height / 2 - rem * 4),
    });
  }
  return { spots, height, vertical: false, radius };
}

const VERDICTS: Readonly<Record<Verdict, string>> = {
  mirrored: "books agree",
  "in motion": "in motion",
  settling: "settlement under way",
  differs: "books differ",
  "one side": "one side only",
};

function LinkLine(props: { link: NetLink; a: Spot; b: Spot; radius: number; vertical: boolean }) {
  const { link, radius, vertical } = props;
  // Drawn from left to right, so that each side's number stands at its own end.
  const swap = props.a.x > props.b.x || (props.a.x === props.b.x && props.a.y > props.b.y);
  const [p, q] = swap ? [props.b, props.a] : [props.a, props.b];
  const [netP, netQ] = swap ? [link.netAtB, link.netAtA] : [link.netAtA, link.netAtB];
  const length = Math.hypot(q.x - p.x, q.y - p.y) || 1;
  const dx = ((q.x - p.x) / length) * radius * 1.3;
  const dy = ((q.y - p.y) / length) * radius * 1.3;
  const at = (part: number): Spot => ({ x: p.x + dx + (q.x - p.x - 2 * dx) * part, y: p.y + dy + (q.y - p.y - 2 * dy) * part });
  const middle = at(0.5);
  const asset = { code: link.code, scale: link.scale };
  const label = (net: bigint | null, spot: Spot, anchor: string, shift: Spot) => (
    <text
      class={cls("net-label num", net === null ? "even" : net > 0n ? "owed" : net < 0n ? "owing" : "even")}
      x={spot.x + shift.x}
      y={spot.y + shift.y}
      text-anchor={anchor}
      dy="0.32em"
    >
      {net !== null && <title>{exactTitle(net, asset)}</title>}
      {net === null ? "?" : `${balance(net, link.scale, true)} ${link.code}`}
    </text>
  );
  return (
    <g class={cls("net-link", `net-${link.verdict.replace(" ", "-")}`)} data-verdict={link.verdict}>
      <line x1={p.x + dx} y1={p.y + dy} x2={q.x - dx} y2={q.y - dy} />
      {vertical ? (
        <>
          {label(netP, at(0.16), "start", { x: radius, y: 0 })}
          {label(netQ, at(0.84), "start", { x: radius, y: 0 })}
          <text class="net-verdict" x={middle.x + radius} y={middle.y} dy="0.32em">
            {mark(link.verdict)} {saidOf(link)}
          </text>
        </>
      ) : (
        <>
          {label(netP, at(0.03), "start", { x: 0, y: -radius * 0.75 })}
          {label(netQ, at(0.97), "end", { x: 0, y: radius * 0.75 })}
          <text class="net-verdict" x={middle.x} y={middle.y + radius * 1.75} text-anchor="middle" dy="0.32em">
            {mark(link.verdict)} {saidOf(link)}
          </text>
        </>
      )}
    </g>
  );
}

/** The verdict, and by how much the two sides differ where they do. */
function saidOf(link: NetLink): string {
  const { netAtA, netAtB } = link;
  if ((link.verdict !== "differs" && link.verdict !== "settling") || netAtA === null || netAtB === null) return VERDICTS[link.verdict];
  const sum = netAtA + netAtB;
  const size = `${balance(sum < 0n ? -sum : sum, link.scale)} ${link.code}`;
  return link.verdict === "differs" ? `books differ by ${size}` : `${VERDICTS.settling}, ${size}`;
}

function mark(verdict: Verdict): string {
  return verdict === "mirrored" ? "✓" : verdict === "differs" ? "≠" : verdict === "in motion" || verdict === "settling" ? "↔" : "?";
}

function NodeMark(props: { node: NetNode; spot: Spot; radius: number; self: boolean; vertical: boolean }) {
  const { node, spot, radius, vertical } = props;
  const health = node.error === "" ? node.health : "unknown";
  const text = vertical
    ? { x: radius * 1.5, y: -radius * 0.3, anchor: "start" }
    : { x: 0, y: radius * 2.9, anchor: "middle" };
  const body = (
    <g transform={`translate(${spot.x} ${spot.y})`} class={cls("net-node", `net-${health}`, props.self && "net-self")}>
      <title>{node.error === "" ? `${node.id} ${node.address}: ${health}` : `${node.url}: ${node.error}`}</title>
      <circle r={radius} />
      <circle class="net-core" r={radius * 0.42} />
      <text x={text.x} y={text.y} text-anchor={text.anchor} class="net-name">
        {node.id.length > 24 ? `${node.id.slice(0, 23)}…` : node.id}
      </text>
      <text x={text.x} y={text.y + radius * 0.95} text-anchor={text.anchor} class="net-note">
        {node.error !== "" ? "not answering" : props.self ? (health === "healthy" ? "this node" : `this node, ${health}`) : health === "healthy" ? node.address : health}
      </text>
    </g>
  );
  return node.error !== "" || props.self ? (
    body
  ) : (
    <a href={node.url} target="_blank" rel="noopener" aria-label={`Open the page of ${node.id}`}>
      {body}
    </a>
  );
}

function inWords(picture: NetPicture): string {
  const links = picture.links.map((link) => `${link.a} and ${link.b}: ${VERDICTS[link.verdict]}`);
  return `${picture.nodes.length} nodes. ${links.join("; ")}`;
}
