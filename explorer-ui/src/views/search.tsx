/** One field that finds peers, accounts, packets and routes. */

import { useSignal } from "@preact/signals";
import { amount, owes, shortId } from "../model/format";
import type { Tab } from "../model/url";
import { cls, Dialog, useEvery } from "../parts/bits";
import { Icon, type IconName } from "../parts/icons";
import { goTo, loadRoutes, routes, store } from "../state";

interface Hit {
  readonly key: string;
  readonly icon: IconName;
  readonly title: string;
  readonly note: string;
  readonly tab: Tab;
  readonly query: Readonly<Record<string, string>>;
}

const HITS_MAX = 12;
const PACKET_ID = /^[0-9a-f]{32}$/;

function find(text: string): Hit[] {
  const wanted = text.trim().toLowerCase();
  const hits: Hit[] = [];
  for (const peer of store.peers.value) {
    if (!peer.peerId.includes(wanted)) continue;
    hits.push({
      key: `peer ${peer.peerId}`, icon: "peers", title: peer.peerId,
      note: `peer, ${peer.connected ? "connected" : "not connected"}`, tab: "peers", query: { peer: peer.peerId },
    }); // prettier-ignore
  }
  if (wanted === "") return hits.slice(0, HITS_MAX);
  for (const account of store.allAccounts()) {
    if (!account.peerId.includes(wanted) && account.code.toLowerCase() !== wanted) continue;
    hits.push({
      key: `account ${account.key}`, icon: "accounts", title: `${account.peerId} · ${account.code}`,
      note: `account, ${owes(account.net)} ${amount(account.net < 0n ? -account.net : account.net, account.scale)}`,
      tab: "accounts", query: { q: account.peerId },
    }); // prettier-ignore
  }
  for (const route of routes.value) {
    if (hits.length > HITS_MAX) break;
    if (!route.prefix.toLowerCase().includes(wanted)) continue;
    hits.push({
      key: `route ${route.prefix} ${route.nextHop}`, icon: "link", title: route.prefix,
      note: `route to ${route.nextHop === "" ? "this node" : route.nextHop}`, tab: "peers", query: { route: route.prefix },
    }); // prettier-ignore
  }
  if (PACKET_ID.test(wanted) && store.packets.get(wanted) === undefined) {
    hits.unshift({
      key: "id", icon: "packets", title: shortId(wanted, 10, 6), note: "packet, looked up in the event store",
      tab: "packets", query: { packet: wanted },
    }); // prettier-ignore
  }
  for (const row of store.packets.rows((one) => one.id.startsWith(wanted) || one.destination.toLowerCase().includes(wanted), 5)) {
    hits.push({
      key: `packet ${row.id}`, icon: "packets", title: shortId(row.id, 10, 6), note: `packet to ${row.destination}, ${row.state}`,
      tab: "packets", query: { packet: row.id },
    }); // prettier-ignore
  }
  hits.splice(HITS_MAX - 1);
  hits.push({
    key: "filter", icon: "search", title: `Packets with “${text.trim()}”`, note: "filter", tab: "packets", query: { q: text.trim() },
  }); // prettier-ignore
  return hits;
}

export function Search(props: { onClose: () => void }) {
  const text = useSignal("");
  const chosen = useSignal(0);
  useEvery(loadRoutes, 60_000);
  const hits = find(text.value);
  const at = Math.min(chosen.value, hits.length - 1);

  const open = (hit: Hit | undefined) => {
    if (hit === undefined) return;
    props.onClose();
    goTo(hit.tab, hit.query);
  };

  return (
    <Dialog label="Search" class="search" onClose={props.onClose}>
      <div class="search-field">
        <Icon name="search" />
        <input
          type="text"
          class="search-input"
          placeholder="Peer, account, packet id, destination …"
          autofocus
          autocomplete="off"
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
            if (event.key === "ArrowDown" || event.key === "ArrowUp") {
              event.preventDefault();
              const step = event.key === "ArrowDown" ? 1 : -1;
              chosen.value = (at + step + hits.length) % Math.max(1, hits.length);
            } else if (event.key === "Enter") open(hits[at]);
          }}
        />
      </div>
      <ul class="hits" id="hits" role="listbox" aria-label="Results">
        {hits.map((hit, index) => (
          <li
            key={hit.key}
            id={`hit-${index}`}
            role="option"
            aria-selected={index === at}
            class={cls("hit", index === at && "hit-on")}
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
    </Dialog>
  );
}
