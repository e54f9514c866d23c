/** A card for each account: who owes whom, how far limits are used, and how it came to that. */

import { useComputed } from "@preact/signals";
import { type Account, creditUsed, levelsOf, waitingInWords } from "../model/accounts";
import { balance, exactTitle, owes } from "../model/format";
import { inOrder } from "../model/inbox";
import { Limits, Sides } from "../parts/accountparts";
import { Chip, cls, Dot, Empty, Money, Panel, Segments, useNear } from "../parts/bits";
import { Icon } from "../parts/icons";
import { isAsked, OpenSettlement } from "../parts/settlement";
import { accounts, goTo, place, setQuery, settlements, store } from "../state";
import { HistoryChart } from "./history";
import { Wallets } from "./wallets";

export const RANGES: readonly (readonly [string, string, number])[] = [
  ["5m", "5 min", 300_000],
  ["15m", "15 min", 900_000],
  ["1h", "1 h", 3_600_000],
  ["24h", "24 h", 86_400_000],
  ["7d", "7 d", 604_800_000],
];

const ORDERS: readonly (readonly [string, string])[] = [
  ["", "by peer"],
  ["owed", "most owed to us"],
  ["owing", "most owed by us"],
  ["credit", "most credit used"],
];

const compare: Readonly<Record<string, (a: Account, b: Account) => number>> = {
  owed: (a, b) => (a.net > b.net ? -1 : a.net < b.net ? 1 : 0),
  owing: (a, b) => (a.net < b.net ? -1 : a.net > b.net ? 1 : 0),
  credit: (a, b) => (creditUsed(b).share ?? 0) - (creditUsed(a).share ?? 0),
};

export function Accounts() {
  const { query } = place.value;
  const range = RANGES.find(([id]) => id === query["range"]) ?? RANGES[1] ?? (["15m", "", 900_000] as const);
  const text = (query["q"] ?? "").toLowerCase();
  const order = compare[query["sort"] ?? ""];
  const all = store.accountKeys.value;
  let keys = all.filter((key) => key.toLowerCase().includes(text));
  if (order !== undefined) {
    // Cards move as soon as their order changes.
    const shown = new Set(keys);
    keys = accounts.value.filter((one) => shown.has(one.key)).sort(order).map((one) => one.key);
  } else {
    keys = [...keys].sort(inOrder);
  }
  return (
    <>
      <div class="filters">
        <input
          class="input grow"
          type="search"
          placeholder="Peer or asset …"
          aria-label="Filter accounts"
          value={query["q"] ?? ""}
          onInput={(event) => {
            setQuery({ q: event.currentTarget.value });
          }}
        />
        <select
          class="input"
          aria-label="Order"
          value={query["sort"] ?? ""}
          onChange={(event) => {
            setQuery({ sort: event.currentTarget.value });
          }}
        >
          {ORDERS.map(([id, label]) => (
            <option key={id} value={id}>
              {label}
            </option>
          ))}
        </select>
        <Segments
          label="Time range"
          options={RANGES}
          chosen={range[0]}
          onChoose={(id) => {
            setQuery({ range: id });
          }}
        />
      </div>
      {keys.length === 0 ? (
        all.length === 0 ? (
          <Empty title="No accounts yet">Each configured peer gets one: BTP_PEER_… in the configuration.</Empty>
        ) : (
          <Empty title="No account fits">Take the filter away to see all of them.</Empty>
        )
      ) : (
        <Shown keys={keys} rangeMs={range[2]} />
      )}
      <Wallets />
    </>
  );
}

/** So many even accounts have cards of their own; more of them are a list. */
const EVEN_CARDS_MAX = 4;

function Shown(props: { keys: readonly string[]; rangeMs: number }) {
  const { keys, rangeMs } = props;
  // Follows the balances, and draws anew only when one becomes even, or ceases to be.
  const even = useComputed(() => {
    const busy = new Set(settlements.value.map((one) => one.peerId));
    const isEven = (one: Account) => one.net === 0n && one.waiting.count === 0 && !busy.has(one.peerId);
    return accounts.value.filter(isEven).map((one) => one.key).join("\n");
  }); // prettier-ignore
  const evens = new Set(even.value.split("\n"));
  const listed = keys.filter((key) => evens.has(key));
  const dense = listed.length > EVEN_CARDS_MAX;
  const cards = dense ? keys.filter((key) => !evens.has(key)) : keys;
  return (
    <>
      {cards.length > 0 && (
        <div class="cards">
          {cards.map((key) => (
            <Card key={key} accountKey={key} rangeMs={rangeMs} />
          ))}
        </div>
      )}
      {dense && (
        <Panel title="Even" class="even-panel" aside={<span class="muted">{listed.length} accounts: nobody owes anything</span>}>
          <ul class="evens" data-testid="evens">
            {listed.map((key) => (
              <EvenRow key={key} accountKey={key} />
            ))}
          </ul>
        </Panel>
      )}
    </>
  );
}

function EvenRow(props: { accountKey: string }) {
  const account = store.account(props.accountKey)?.value;
  if (account === undefined) return null;
  const peer = store.peers.value.find((one) => one.peerId === account.peerId);
  const asset = { code: account.code, scale: account.scale };
  return (
    <li>
      <button
        type="button"
        class="even-row"
        data-testid={`even-${account.peerId}`}
        onClick={() => {
          goTo("peers", { peer: account.peerId });
        }}
      >
        <span class="even-peer">
          <Dot kind={peer?.connected === true ? "live" : peer?.offlineExpected === true ? "wait" : "bad"} />
          {account.peerId}
          {peer?.connected !== true && <span class="muted"> {peer === undefined ? "removed" : "down"}</span>}
        </span>
        <span class="muted" title="What passed each way so far">
          {account.debit === 0n ? "nothing yet" : <Money value={account.debit} asset={asset} />}
        </span>
        <span class="muted" title="What it may owe us">
          limit <Money value={account.creditLimit} asset={asset} />
        </span>
      </button>
    </li>
  );
}

const SETTLEMENT_WORDS: Readonly<Record<string, readonly [string, string]>> = {
  IDLE: ["quiet", "settlement idle"],
  PENDING: ["warn", "settlement pending"],
  IN_PROGRESS: ["busy", "settling now"],
};

const OPEN_SHOWN_MAX = 3;

function Card(props: { accountKey: string; rangeMs: number }) {
  const source = store.account(props.accountKey);
  if (source === undefined) return null;
  const account = source.value;
  const [ref, near] = useNear<HTMLElement>();
  const asset = { code: account.code, scale: account.scale };
  const side = account.net > 0n ? "owed" : account.net < 0n ? "owing" : "even";
  const [kind, words] = SETTLEMENT_WORDS[account.settlement] ?? ["quiet", account.settlement.toLowerCase()];
  const last = store.lastSettlement(account.peerId);
  const open = settlements.value.filter((one) => one.peerId === account.peerId && one.assetCode === account.code);
  return (
    <article class={cls("card", `card-${side}`)} ref={ref} aria-label={`Account with ${account.peerId}`} data-testid={`account-${account.peerId}`}>
      <header class="card-head">
        <button
          type="button"
          class="card-peer"
          title="Show the peer"
          onClick={() => {
            goTo("peers", { peer: account.peerId });
          }}
        >
          {account.peerId}
        </button>
        <Link peerId={account.peerId} />
        <span class="card-asset">
          {account.code} <span class="muted">scale {account.scale}</span>
        </span>
      </header>
      <div class={cls("net", side)} title={exactTitle(account.net, asset)} data-testid="net" data-net={account.net.toString()}>
        <Icon name={side === "owed" ? "down" : side === "owing" ? "up" : "even"} />
        <span class="net-value num">{balance(account.net, account.scale, true)}</span>
        <span class="net-unit">{account.code}</span>
        <span class="net-words">{side === "even" ? "even" : owes(account.net)}</span>
      </div>
      <Sides account={account} />
      <div class="card-chart">
        {near ? <HistoryChart account={account} rangeMs={props.rangeMs} levels={levelsOf(account)} /> : <div class="chart" />}
      </div>
      <Limits account={account} />
      <footer class="card-foot">
        {!open.some(isAsked) && (
          <span data-testid="settlement-state" data-state={account.settlement}>
            <Chip kind={kind}>{words}</Chip>
          </span>
        )}
        {open.filter(isAsked).slice(0, OPEN_SHOWN_MAX).map((one) => (
          <OpenSettlement key={one.settlementId} one={one} asset={asset} />
        ))}
        {open.filter(isAsked).length > OPEN_SHOWN_MAX && <span class="muted">and {open.filter(isAsked).length - OPEN_SHOWN_MAX} more, on the dashboard</span>}
        {account.waiting.count > 0 && (
          <span data-testid="waiting" title={`Was it received? Then: connector settle ${account.peerId} --accept, else --decline`}>
            <Chip kind="warn">{waitingInWords(account.waiting)}</Chip> <Money value={account.waiting.amount} asset={asset} />
          </span>
        )}
        {last !== null && (
          <span class="muted" title={last.timestamp}>
            last: {last.type.slice("SETTLEMENT_".length).toLowerCase()}, <Money value={BigInt(last.amount)} asset={asset} />
            {last.error !== undefined && last.error !== "" && `: ${last.error}`}
          </span>
        )}
        <button
          type="button"
          class="link push"
          onClick={() => {
            goTo("packets", { peer: account.peerId });
          }}
        >
          Packets
        </button>
      </footer>
    </article>
  );
}

function Link(props: { peerId: string }) {
  const up = useComputed(() => store.peers.value.find((peer) => peer.peerId === props.peerId)?.connected);
  if (up.value === undefined) return <Chip kind="quiet">no longer configured</Chip>;
  return up.value ? <Chip kind="ok">connected</Chip> : <Chip kind="bad">not connected</Chip>;
}
