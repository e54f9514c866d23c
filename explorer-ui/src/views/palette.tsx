/** One field that goes to, finds and does everything (Ctrl-K): pages, peers, accounts, routes, packets, actions. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { get } from "../model/api";
import { addPeer, addRoute, pay, peerActions, sendPacket } from "../model/forms";
import { balance, owes, shortId } from "../model/format";
import { inOrder } from "../model/inbox";
import type { Action } from "../model/operate";
import { best, digitsOf, type Thing } from "../model/palette";
import type { Hop, Page, PeerItem, PeerTerms } from "../model/types";
import type { Tab } from "../model/url";
import { cls, Dialog, useEvery } from "../parts/bits";
import { Icon, type IconName } from "../parts/icons";
import { begin, session } from "../parts/operate";
import { rows } from "../situation";
import { accounts as balances, failed, goTo, loadRoutes, ownAsset, routes, store } from "../state";
import { setTheme, theme, THEMES } from "../theme";

interface Hit extends Thing {
  readonly icon: IconName;
  readonly run: () => void;
}

const HITS_MAX = 14;
/** After the last digit that was typed. */
const TYPED_MS = 120;

const PAGES: readonly (readonly [Tab, string])[] = [
  ["dashboard", "Dashboard"],
  ["packets", "Packets"],
  ["accounts", "Accounts"],
  ["peers", "Peers"],
  ["keys", "Keys"],
  ["log", "Log"],
];

function pages(): Hit[] {
  return PAGES.map(([tab, title], index) => ({
    key: `page ${tab}`, rank: 0, icon: tab, title, note: `page, key ${index + 1}`, run: () => goTo(tab),
  })); // prettier-ignore
}

/** What needs somebody. */
function needed(): Hit[] {
  return rows.value.map((row) => ({
    key: `need ${row.key}`, rank: 1, icon: "warn" as const, title: row.text, note: "needs you", run: () => goTo(row.tab, row.query),
  })); // prettier-ignore
}

function peers(): Hit[] {
  const known = [...store.peers.value].sort((a, b) => inOrder(a.peerId, b.peerId));
  return known.map((peer) => ({
    key: `peer ${peer.peerId}`, rank: 2, icon: "peers", title: peer.peerId, note: `peer, ${peer.connected ? "connected" : "not connected"}`,
    run: () => goTo("peers", { peer: peer.peerId }),
  })); // prettier-ignore
}

function accounts(): Hit[] {
  return balances.value.map((account) => ({
    key: `account ${account.key}`, rank: 3, icon: "accounts", title: `${account.peerId} · ${account.code}`,
    note: `account, ${owes(account.net)} ${account.net === 0n ? "" : balance(account.net < 0n ? -account.net : account.net, account.scale)}`,
    run: () => goTo("accounts", { q: account.peerId }),
  })); // prettier-ignore
}

function ways(): Hit[] {
  return routes.value.map((route) => ({
    key: `route ${route.prefix} ${route.nextHop}`, rank: 6, icon: "link", title: route.prefix === "" ? "everything else" : route.prefix,
    note: `route to ${route.nextHop === "" ? "this node" : route.nextHop}`, run: () => goTo("peers", { route: route.prefix }),
  })); // prettier-ignore
}

function act(action: Action, words = ""): Hit {
  return { key: `act ${action.key}`, rank: 4, icon: "bolt", title: action.title, note: "action", words: `${action.label} ${words}`, run: () => begin(action) };
}

/** An action that needs the terms of a peer: they are asked for when it is chosen. */
function later(peer: PeerItem, label: string, title: string, words: string): Hit {
  const run = () => {
    get<PeerTerms>(`api/peers/${encodeURIComponent(peer.peerId)}`).then((terms) => {
      const action = peerActions(peer, undefined, terms).find((one) => one.label === label);
      if (action !== undefined) begin(action);
    }, failed);
  };
  return { key: `act ${label} ${peer.peerId}`, rank: 4, icon: "bolt", title, note: "action", words: `${label} ${words}`, run };
}

function doing(): Hit[] {
  if (session.value?.canOperate !== true) return [];
  const known = [...store.peers.value].sort((a, b) => inOrder(a.peerId, b.peerId));
  const books = new Map(balances.value.map((one) => [one.peerId, one]));
  return [
    act(addPeer(ownAsset()), "new connect"),
    ...(known.length > 0 ? [act(addRoute(known.map((peer) => peer.peerId)), "new prefix")] : []),
    act(sendPacket(ownAsset()), "ping"),
    act(pay(ownAsset()), "payment pointer wallet"),
    ...known.flatMap((peer) => [
      later(peer, "Limits", `Limits of ${peer.peerId}`, "credit raise threshold rate"),
      later(peer, "Edit", `Edit ${peer.peerId}`, "url fee routes"),
      ...peerActions(peer, books.get(peer.peerId), null).map((action) => act(action)),
    ]),
  ];
}

function themes(): Hit[] {
  const words = { system: "Theme as the system prefers", dark: "Dark theme", light: "Light theme" } as const;
  const icons = { system: "screen", dark: "moon", light: "sun" } as const;
  return THEMES.filter((one) => one !== theme.value).map((one) => ({
    key: `theme ${one}`, rank: 7, icon: icons[one], title: words[one], note: "setting", run: () => setTheme(one),
  })); // prettier-ignore
}

/** Packets whose id or condition begins so. */
function packetHits(found: readonly Hop[], digits: string): Hit[] {
  return found.map((hop) => ({
    key: `packet ${hop.packetId}`, rank: 0, icon: "packets", title: hop.packetId.startsWith(digits) ? shortId(hop.packetId, 10, 6) : `${shortId(digits, 10, 6)} is the condition of ${shortId(hop.packetId, 6, 4)}`,
    note: `packet to ${hop.destination}, ${hop.status === "pending" ? "in flight" : hop.status}`, words: digits,
    run: () => goTo("packets", { packet: hop.packetId }),
  })); // prettier-ignore
}

/** What is always possible with what was typed. */
function rest(text: string): Hit[] {
  const typed = text.trim();
  if (typed === "") return [];
  const digits = digitsOf(typed);
  return [
    ...(digits !== null && digits.length === 64
      ? [{ key: "way", rank: 0, icon: "way" as const, title: "Follow this condition over all nodes", note: "packet", run: () => goTo("packets", { condition: digits }) }]
      : []),
    { key: "filter", rank: 9, icon: "search", title: `Packets with “${typed}”`, note: "filter", run: () => goTo("packets", { q: typed }) },
  ];
}

function usePackets(digits: string | null): readonly Hop[] {
  const found = useSignal<{ readonly digits: string; readonly items: readonly Hop[] }>({ digits: "", items: [] });
  useEffect(() => {
    if (digits === null) return;
    const timer = window.setTimeout(() => {
      get<Page<Hop>>("api/v1/packet-ids", { prefix: digits }).then((page) => {
        found.value = { digits, items: page.items };
      }, failed);
    }, TYPED_MS);
    return () => {
      window.clearTimeout(timer);
    };
  }, [digits]);
  return found.value.digits === digits ? found.value.items : [];
}

export function Palette(props: { onClose: () => void }) {
  const text = useSignal("");
  const chosen = useSignal(0);
  const list = useRef<HTMLUListElement>(null);
  useEvery(loadRoutes, 60_000);
  const digits = digitsOf(text.value);
  const packets = packetHits(usePackets(digits), digits ?? "");
  const always = rest(text.value);
  const all = text.value.trim() === "" ? [...pages(), ...needed(), ...peers(), ...themes()] : [...pages(), ...needed(), ...peers(), ...accounts(), ...ways(), ...doing(), ...themes()];
  const hits = [...packets, ...best(all, text.value, HITS_MAX - Math.min(packets.length, 8)), ...always];
  const at = Math.min(chosen.value, hits.length - 1);

  useEffect(() => {
    list.current?.children[at]?.scrollIntoView({ block: "nearest" });
  }, [at]);

  const open = (hit: Hit | undefined) => {
    if (hit === undefined) return;
    props.onClose();
    hit.run();
  };

  return (
    <Dialog label="Search and commands" class="search" onClose={props.onClose}>
      <div class="search-field">
        <Icon name="search" />
        <input
          type="text"
          class="search-input"
          placeholder="Go to, find or do …"
          autofocus
          autocomplete="off"
          spellcheck={false}
          role="combobox"
          aria-expanded={hits.length > 0}
          aria-autocomplete="list"
          aria-controls="hits"
          {...(hits.length > 0 ? { "aria-activedescendant": `hit-${at}` } : {})}
          aria-label="Search"
          value={text.value}
          onInput={(event) => {
            text.value = event.currentTarget.value;
            chosen.value = 0;
          }}
          onKeyDown={(event) => {
            const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
            if (step !== 0) {
              event.preventDefault();
              chosen.value = (at + step + hits.length) % Math.max(1, hits.length);
            } else if (event.key === "Enter") {
              event.preventDefault();
              open(hits[at]);
            }
          }}
        />
        <kbd>Esc</kbd>
      </div>
      <ul class="hits" id="hits" role="listbox" aria-label="Results" ref={list}>
        {hits.map((hit, index) => (
          <li
            key={hit.key}
            id={`hit-${index}`}
            role="option"
            aria-selected={index === at}
            class={cls("hit", index === at && "hit-on", `hit-${hit.icon}`)}
            onClick={() => {
              open(hit);
            }}
          >
            <Icon name={hit.icon} />
            <span class="hit-title">{hit.title}</span>
            <span class="hit-note">{hit.note}</span>
          </li>
        ))}
      </ul>
      {hits.length === 0 && (
        <p class="muted pad" role="status">
          Nothing found.
        </p>
      )}
      <p class="hits-foot">
        <span>
          <kbd>↑</kbd> <kbd>↓</kbd> choose
        </span>
        <span>
          <kbd>Enter</kbd> open
        </span>
        <span class="push">a packet by the first digits of its id or condition; an action asks before it does anything</span>
      </p>
    </Dialog>
  );
}
