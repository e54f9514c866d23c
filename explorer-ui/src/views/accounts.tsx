/** A card for each account: who owes whom, how far limits are used, and how it came to that. */

import { signal, useComputed } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Account, creditUsed, levelOf, levelWords, towardsSettlement, waitingInWords } from "../model/accounts";
import { get } from "../model/api";
import { balance, exact, exactTitle, owes, share } from "../model/format";
import { actions } from "../model/operate";
import { inOrder } from "../model/inbox";
import { joined } from "../model/points";
import type { History, HistoryItem, SettlementItem } from "../model/types";
import { Chip, cls, Empty, Money, Progress, Segments, useNear } from "../parts/bits";
import { BalanceChart } from "../parts/chart";
import { Icon } from "../parts/icons";
import { Act } from "../parts/operate";
import { failed, goTo, now, place, setQuery, settlements, store } from "../state";
import { Wallets } from "./wallets";

const RANGES: readonly (readonly [string, string, number])[] = [
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
    // Reads every balance, so cards move as soon as their order changes.
    const shown = new Set(keys);
    keys = store.allAccounts().filter((one) => shown.has(one.key)).sort(order).map((one) => one.key);
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
        <div class="cards">
          {keys.map((key) => (
            <Card key={key} accountKey={key} rangeMs={range[2]} />
          ))}
        </div>
      )}
      <Wallets />
    </>
  );
}

const SETTLEMENT_WORDS: Readonly<Record<string, readonly [string, string]>> = {
  IDLE: ["quiet", "settlement idle"],
  PENDING: ["warn", "settlement pending"],
  IN_PROGRESS: ["busy", "settling now"],
};

const OPEN_SHOWN_MAX = 3;

/** Whether somebody has to do something about a settlement. */
function isAsked(one: SettlementItem): boolean {
  return one.phase === "waiting" || (one.phase === "booked" && one.payer === "operator");
}

/** A settlement that waits for an operator: what to do, with the amount, and the buttons for it. */
function OpenSettlement(props: { one: SettlementItem; asset: { code: string; scale: number } }) {
  const { one, asset } = props;
  const value = BigInt(one.amount);
  const money = `${exact(value, asset.scale)} ${asset.code}`;
  const step = (name: "confirm" | "cancel" | "accept" | "decline") => actions.step(one.peerId, one.settlementId, name, money);
  const toPay = one.phase === "booked";
  return (
    <span class="open-settlement" data-testid="settlement-state" data-state={toPay ? "TO_PAY" : "WAITING"}>
      <Chip kind="warn">{toPay ? "pay, then confirm" : "received?"}</Chip> <Money value={value} asset={asset} />{" "}
      {(toPay ? (["confirm", "cancel"] as const) : (["accept", "decline"] as const)).map((name) => (
        <Act key={name} action={step(name)} small />
      ))}
    </span>
  );
}

function inWords(percent: number): string {
  return [share(percent), levelWords(percent)].filter(Boolean).join(", ");
}

function Card(props: { accountKey: string; rangeMs: number }) {
  const source = store.account(props.accountKey);
  if (source === undefined) return null;
  const account = source.value;
  const [ref, near] = useNear<HTMLElement>();
  const asset = { code: account.code, scale: account.scale };
  const side = account.net > 0n ? "owed" : account.net < 0n ? "owing" : "even";
  const credit = creditUsed(account);
  const settle = towardsSettlement(account);
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
      <dl class="sides">
        <div>
          <dt title="What they sent through us, and what we paid them in settlements">They sent, or we paid</dt>
          <dd>
            <Money value={account.debit} asset={asset} unit={false} />
          </dd>
        </div>
        <div>
          <dt title="What we sent towards them, and what they paid us in settlements">We sent, or they paid</dt>
          <dd>
            <Money value={account.credit} asset={asset} unit={false} />
          </dd>
        </div>
        <div>
          <dt>Held now</dt>
          <dd title="for packets without an answer yet: from them / to them">
            <Money value={account.pendingDebits} asset={asset} unit={false} />
            {" / "}
            <Money value={account.pendingCredits} asset={asset} unit={false} />
          </dd>
        </div>
      </dl>
      <div class="card-chart">
        {near ? <HistoryChart account={account} rangeMs={props.rangeMs} /> : <div class="chart" />}
      </div>
      <Progress
        label="Credit used"
        testId="credit"
        share={credit.share}
        level={levelOf(credit.share)}
        words={
          credit.share === null ? (
            "no credit given"
          ) : (
            <>
              <Money value={credit.used} asset={asset} unit={false} /> of <Money value={account.creditLimit} asset={asset} />
              {" · "}
              {inWords(credit.share)}
            </>
          )
        }
      />
      {settle !== null && account.threshold !== null ? (
        <Progress
          label="To settlement"
          testId="settlement"
          share={settle.share}
          level={levelOf(settle.share)}
          words={
            <>
              <Money value={settle.owed} asset={asset} unit={false} /> of <Money value={account.threshold} asset={asset} />
              {" · "}
              {inWords(settle.share)}
            </>
          }
        />
      ) : (
        <p class="no-threshold">No settlement threshold: what we owe is not settled by itself.</p>
      )}
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

// --- history

/** What was loaded, by peer and range: going to another tab and back does not ask again. */
const histories = new Map<string, ReturnType<typeof historyOf>>();
const HISTORIES_MAX = 500;

function historyOf() {
  return { items: signal<readonly HistoryItem[]>([]), error: signal(""), loadedAt: 0, busy: false };
}

async function load(peerId: string, rangeMs: number, into: ReturnType<typeof historyOf>): Promise<void> {
  if (into.busy) return;
  into.busy = true;
  try {
    const answer = await get<History>(`api/accounts/${encodeURIComponent(peerId)}/history`, {
      from: Date.now() - rangeMs,
      points: 400,
    });
    into.items.value = answer.items;
    into.error.value = "";
    into.loadedAt = Date.now();
  } catch (error) {
    into.error.value = failed(error);
  }
  into.busy = false;
}

function HistoryChart(props: { account: Account; rangeMs: number }) {
  const { account, rangeMs } = props;
  const key = `${account.key}|${rangeMs}`;
  let known = histories.get(key);
  if (known === undefined) {
    if (histories.size >= HISTORIES_MAX) histories.clear();
    known = historyOf();
    histories.set(key, known);
  }
  const history = known;
  const gaps = store.gaps.value;
  useEffect(() => {
    if (Date.now() - history.loadedAt > Math.min(60_000, rangeMs / 20) || gaps > 0) void load(account.peerId, rangeMs, history);
  }, [key, gaps]);
  // Always up to the newest balance, also between two steps of the clock.
  const live = store.livePoints(account.key);
  const points = joined(history.items.value, live);
  const to = Math.max(now.value, points[points.length - 1]?.at ?? 0);
  return (
    <>
      <BalanceChart
        peerId={account.peerId}
        asset={{ code: account.code, scale: account.scale }}
        points={points}
        from={to - rangeMs}
        to={to}
      />
      {history.error.value !== "" && (
        <p class="chart-note" role="alert">
          History could not be loaded: {history.error.value} Shown since this page was opened.
        </p>
      )}
    </>
  );
}
