/** The one store of the page, its feed, and where the user is. */

import { signal, untracked } from "@preact/signals";
import type { Account } from "./model/accounts";
import { ApiError, feedAddress, get } from "./model/api";
import type { Asset } from "./model/format";
import { Feed, type Socket } from "./model/feed";
import { Gatherer, LOADING, READY, Store, withReason } from "./model/store";
import type { AccountItem, Aggregates, LogPage, Network, Page, PeerItem, RouteItem, SettlementItem, Status, WireEvent } from "./model/types";
import { formatPlace, parsePlace, type Place, type Tab, withQuery } from "./model/url";

export const store = new Store();

/** The page's clock, one step a second while it is looked at. */
export const now = signal(Date.now());

export const place = signal<Place>(parsePlace(location.hash));

export function goTo(tab: Tab, query: Readonly<Record<string, string>> = {}): void {
  const next = formatPlace({ tab, query });
  if (next !== location.hash) location.hash = next;
}

/** Change values of the present place; without an entry in the history for each letter typed. */
export function setQuery(change: Readonly<Record<string, string>>): void {
  const next = withQuery(place.value, change);
  history.replaceState(null, "", formatPlace(next));
  place.value = next;
}

export const routes = signal<readonly RouteItem[]>([]);
export const routesLoad = signal(LOADING);
export const routesMore = signal(false);
/** Those that are not over: booked, waiting or being decided, newest first. */
export const settlements = signal<readonly SettlementItem[]>([]);
/**
 * All accounts, for what shows many of them or sums: as they are a few times a second. Each balance has a signal of its own, which a
 * card follows at once; who read them all would be drawn anew for every packet.
 */
export const accounts = signal<readonly Account[]>([]);
const ACCOUNTS_MS = 400;
let accountsDue = 0;

function noteAccounts(soon = false): void {
  if (soon) {
    window.clearTimeout(accountsDue);
    accountsDue = 0;
    accounts.value = untracked(() => store.allAccounts());
  } else if (accountsDue === 0) {
    accountsDue = window.setTimeout(() => {
      noteAccounts(true);
    }, ACCOUNTS_MS);
  }
}

/** Rises when an operator has changed something. */
export const settingsVersion = signal(0);
export const network = signal<Network | null>(null);

/** That of this node, in which it sends. */
export function ownAsset(): Asset {
  const status = store.status.value;
  return { code: status?.assetCode ?? "", scale: status?.assetScale ?? 0 };
}

/** Soon enough to be seen within a tenth of a second, and seldom enough for many packets at once. */
const GATHER_MS = 40;

function frame(work: () => void): void {
  // Not by the next frame: to be asked for one, a browser draws it, also where nothing on the page has changed.
  // A hidden page draws nothing; its numbers must not pile up until it is looked at again.
  window.setTimeout(work, document.hidden ? 250 : GATHER_MS);
}

const gatherer = new Gatherer((events) => {
  store.apply(events, Date.now());
  if (events.some((event) => event.type === "ACCOUNT_BALANCE")) noteAccounts();
}, frame);

export const feed = new Feed({
  connect: (since) => new WebSocket(feedAddress(since)) as unknown as Socket,
  onState: (state) => {
    store.connection.value = state;
  },
  onSnapshot: (snapshot) => {
    store.heardAt = Date.now();
    gatherer.flush();
    store.snapshot(snapshot, Date.now());
    noteAccounts(true);
    store.needsLogin.value = false;
    void loadSettlements();
    void loadRates();
    void recall();
  },
  onEvents: (events) => {
    store.heardAt = Date.now();
    gatherer.add(events);
    if (events.some((event) => store.changesWaiting(event))) void loadWaiting();
    if (events.some((event) => event.type.startsWith("SETTLEMENT_"))) void loadSettlements();
    if (events.some((event) => event.type === "ADMIN_ACTION")) {
      settingsVersion.value += 1;
      void loadPeers();
    }
  },
  onGap: () => {
    store.gaps.value += 1;
  },
  onClosed: () => {
    void look();
  },
  later: (work, ms) => window.setTimeout(work, ms),
  cancel: (timer) => {
    window.clearTimeout(timer);
  },
  random: Math.random,
});

export function failed(error: unknown): string {
  if (error instanceof ApiError && error.status === 401) store.needsLogin.value = true;
  return error instanceof Error ? error.message : String(error);
}

/** Why there is no feed: a WebSocket does not say, a plain request does. */
async function look(): Promise<void> {
  try {
    store.status.value = withReason(await get<Status>("api/status"));
    store.needsLogin.value = false;
  } catch (error) {
    const message = failed(error);
    if (store.status.value === null) store.load.value = { state: "error", message };
  }
}

export function again(): void {
  if (store.load.value.state === "error") store.load.value = LOADING;
  feed.now();
}

export async function loadPeers(): Promise<void> {
  try {
    store.peers.value = (await get<Page<PeerItem>>("api/peers")).items;
  } catch (error) {
    failed(error);
  }
}

let waitingAsked = false;
let waitingAgain = false;

/** What waits for an operator is in no event; it changes seldom. */
async function loadWaiting(): Promise<void> {
  waitingAgain = waitingAsked;
  if (waitingAsked) return;
  waitingAsked = true;
  try {
    store.setWaiting((await get<Page<AccountItem>>("api/accounts")).items);
    noteAccounts(true);
  } catch (error) {
    failed(error);
  }
  waitingAsked = false;
  if (waitingAgain) void loadWaiting();
}

let ratesAsked = false;
/** Why the rates could not be loaded. */
export const ratesFault = signal("");

/** The seconds that are over since the last time; at first, all that the page shows. */
export async function loadRates(): Promise<void> {
  if (ratesAsked) return;
  ratesAsked = true;
  try {
    const { newest } = store.rates;
    const found = await get<Aggregates>("api/aggregates", { range: 900, points: 900, after: newest === 0 ? null : newest * 1000 });
    // A snapshot in between has begun anew: what was asked for before would leave a hole.
    if (store.rates.newest === newest && found.items.length > 0) {
      store.rates.put(found.items);
      store.ratesVersion.value += 1;
    }
    ratesFault.value = "";
  } catch (error) {
    ratesFault.value = failed(error);
  }
  ratesAsked = false;
}

const RATES_MS = 1000;
const RATES_HIDDEN_MS = 10_000;

let settlementsAsked = false;
let settlementsAgain = false;

/** Settlements that are not over. */
export async function loadSettlements(): Promise<void> {
  settlementsAgain = settlementsAsked;
  if (settlementsAsked) return;
  settlementsAsked = true;
  try {
    const pages = await Promise.all(
      ["pending", "booked", "waiting"].map((phase) => get<Page<SettlementItem>>("api/settlements", { phase, limit: 200 })),
    );
    settlements.value = pages.flatMap((page) => page.items);
  } catch (error) {
    // A node of an earlier version has no such list.
    if (!(error instanceof ApiError && error.status === 404)) failed(error);
  }
  settlementsAsked = false;
  if (settlementsAgain) void loadSettlements();
}

const RECALLED = 100;

/** What happened before this page was opened. */
async function recall(): Promise<void> {
  try {
    store.recall((await get<LogPage>("api/v1/log", { limit: RECALLED })).items as unknown as readonly WireEvent[]);
  } catch (error) {
    // A node of an earlier version has no log.
    if (!(error instanceof ApiError && error.status === 404)) failed(error);
  }
}

export async function loadAccounts(): Promise<void> {
  try {
    store.setAccounts((await get<Page<AccountItem>>("api/accounts")).items, Date.now());
    noteAccounts(true);
  } catch (error) {
    failed(error);
  }
}

const ROUTES_SHOWN_MAX = 2000;

export async function loadRoutes(): Promise<void> {
  try {
    let cursor: string | number | null = "";
    let items: readonly RouteItem[] = [];
    do {
      const page: Page<RouteItem> = await get<Page<RouteItem>>("api/routes", { cursor, limit: 1000 });
      items = [...items, ...page.items];
      cursor = page.next;
    } while (cursor !== null && items.length < ROUTES_SHOWN_MAX);
    routes.value = items;
    routesMore.value = cursor !== null;
    routesLoad.value = READY;
  } catch (error) {
    routesLoad.value = { state: "error", message: failed(error) };
  }
}

export async function loadNetwork(): Promise<void> {
  try {
    network.value = await get<Network>("api/network");
  } catch (error) {
    failed(error);
    network.value ??= { configured: false, nodes: [] };
  }
}

export function start(): void {
  window.addEventListener("hashchange", () => {
    const { tab, query } = place.value;
    place.value = parsePlace(location.hash);
    // Another page begins at its top.
    if (place.value.tab !== tab || (tab === "peers" && place.value.query["peer"] !== query["peer"])) window.scrollTo(0, 0);
  });
  window.setInterval(() => {
    if (!document.hidden) now.value = Date.now();
  }, 1000);
  window.setInterval(() => {
    if (store.connection.value === "live" && (!document.hidden || Date.now() % RATES_HIDDEN_MS < RATES_MS)) void loadRates();
  }, RATES_MS);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    now.value = Date.now();
    feed.now();
  });
  window.addEventListener("online", () => {
    feed.now();
  });
  feed.start();
}
