/** The links of the network in a list: what both sides book, what passes, and how each is. */

import { useMemo } from "preact/hooks";
import { count, span } from "../model/format";
import { inOrder } from "../model/inbox";
import { type NetLink, type NetPicture, urgency } from "../model/network";
import { goTo, now, store } from "../state";
import { Balance, Chip, cls } from "./bits";
import { linkWords, settlementWords } from "./linkwords";

const ROWS_MAX = 300;

export function LinkTable(props: { picture: NetPicture; self: string; lit: string; onLit: (key: string) => void }) {
  const { picture, self, lit } = props;
  const links = useMemo(
    () => [...picture.links].sort((a, b) => urgency(a) - urgency(b) || Number(isOwn(b, self)) - Number(isOwn(a, self)) || inOrder(a.key, b.key)),
    [picture, self],
  );
  const names = useMemo(() => new Map(picture.nodes.map((node) => [node.key, node.id])), [picture]);
  const named = (link: NetLink) => `${names.get(link.a) ?? link.a} – ${names.get(link.b) ?? link.b}`;
  return (
    <div class="net-table" tabIndex={0} role="region" aria-label="Links, with the books of both sides">
      <table class="grid" data-testid="net-links">
        <thead>
          <tr>
            <th scope="col">Link</th>
            <th scope="col" class="right">
              Books of the first
            </th>
            <th scope="col" class="right">
              of the second
            </th>
            <th scope="col" class="right" title="Packets per second, both ways">
              /s
            </th>
            <th scope="col">State</th>
          </tr>
        </thead>
        <tbody>
          {links.slice(0, ROWS_MAX).map((link) => (
            <tr
              key={link.key}
              class={cls((lit === link.key || lit === link.a || lit === link.b) && "grid-on")}
              data-link={link.key}
              onPointerEnter={() => {
                props.onLit(link.key);
              }}
              onPointerLeave={() => {
                props.onLit("");
              }}
            >
              <th scope="row">
                {isOwn(link, self) ? (
                  <button
                    type="button"
                    class="link strong"
                    onClick={() => {
                      goTo("peers", { peer: link.a === self ? link.b : link.a });
                    }}
                  >
                    {named(link)}
                  </button>
                ) : (
                  named(link)
                )}
              </th>
              <td class="right">
                <Book net={link.netAtA} stale={link.staleA} link={link} />
              </td>
              <td class="right">
                <Book net={link.netAtB} stale={link.staleB} link={link} />
              </td>
              <td class="right num">{link.rate === null ? <span class="muted">–</span> : count(Math.round(link.rate * 10) / 10)}</td>
              <td>
                <How link={link} self={self} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {links.length > ROWS_MAX && <p class="muted pad">and {links.length - ROWS_MAX} more</p>}
    </div>
  );
}

function isOwn(link: NetLink, self: string): boolean {
  return link.a === self || link.b === self;
}

/** What one side books; of a silent one what it said last, and when. */
function Book(props: { net: bigint | null; stale: number | null; link: NetLink }) {
  const { net, stale, link } = props;
  if (net === null) {
    return (
      <span class="muted" title="This side is not asked: EXPLORER_NODES names it not, or it has no such account">
        not asked
      </span>
    );
  }
  return (
    <span class={cls(net > 0n ? "owed" : net < 0n ? "owing" : "even", stale !== null && "net-stale")}>
      <Balance value={net} asset={{ code: link.code, scale: link.scale }} signed />
      {stale !== null && <small class="muted"> {span((now.value + store.skewMs - stale) / 1000)} ago</small>}
    </span>
  );
}

/** Neutral for normal; a chip for what is not. */
function How(props: { link: NetLink; self: string }) {
  const { link, self } = props;
  const open = settlementWords(link, self);
  const chip =
    link.verdict === "differs" ? (
      <Chip kind="bad">{linkWords({ ...link, settlement: null, rate: null, state: "up" }, self)}</Chip>
    ) : link.state === "down" ? (
      <Chip kind="bad">link down</Chip>
    ) : null;
  return (
    <>
      {chip}
      {open !== "" && <Chip kind={link.settlement?.state === "waits" ? "warn" : "busy"}>{open}</Chip>}
      {chip === null && open === "" && <span class="muted">{linkWords({ ...link, rate: null }, self) || link.state}</span>}
    </>
  );
}
