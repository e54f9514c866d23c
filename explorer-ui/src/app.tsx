/** The frame of the page: header, tabs, keys, dialogs; which tab is shown. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { accountingInWords } from "./model/attention";
import { behind } from "./model/feed";
import { count, plural, span } from "./model/format";
import { TABS, type Tab } from "./model/url";
import { cls, Dot, Failure, Loading, stepped } from "./parts/bits";
import { Icon } from "./parts/icons";
import { Doing, Operator } from "./parts/operate";
import { again, goTo, now, place, setQuery, store } from "./state";
import { setTheme, type Theme, theme, THEMES } from "./theme";
import { Accounts } from "./views/accounts";
import { Dashboard } from "./views/dashboard";
import { Help } from "./views/help";
import { Keys } from "./views/keys";
import { Log } from "./views/log";
import { Login } from "./views/login";
import { Packets } from "./views/packets";
import { Palette } from "./views/palette";
import { Peers } from "./views/peers";

const NAMES: Readonly<Record<Tab, string>> = {
  dashboard: "Dashboard",
  packets: "Packets",
  accounts: "Accounts",
  peers: "Peers",
  keys: "Keys",
  log: "Log",
};

const VIEWS = { dashboard: Dashboard, packets: Packets, accounts: Accounts, peers: Peers, keys: Keys, log: Log };

export function App() {
  const dialog = useSignal<"none" | "help" | "search">("none");

  // The browser tells late that a dialog has closed: another one may be open by then.
  const close = (name: "help" | "search") => {
    if (dialog.value === name) dialog.value = "none";
  };

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
        // It is that of the browser's own search elsewhere.
        event.preventDefault();
        if (dialog.value === "search") dialog.value = "none";
        else if (document.querySelector("dialog[open]") === null && !store.needsLogin.value) dialog.value = "search";
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") !== null) return;
      const target = event.target as HTMLElement;
      const isTyping = target.matches("input, select, textarea");
      if (event.key === "Escape") {
        if (isTyping) target.blur();
        else if (place.value.tab === "peers" && place.value.query["peer"] !== undefined) goTo("peers");
        else if (place.value.query["packet"] !== undefined) setQuery({ packet: "" });
        else if (place.value.query["condition"] !== undefined) setQuery({ condition: "", way: "", at: "" });
        return;
      }
      if (isTyping) return;
      const tab = TABS[Number(event.key) - 1];
      if (tab !== undefined) goTo(tab);
      else if (event.key === "/") dialog.value = "search";
      else if (event.key === "?") dialog.value = "help";
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => {
      window.removeEventListener("keydown", onKey);
    };
  }, []);

  if (store.needsLogin.value) return <Login />;
  const { tab } = place.value;
  const View = VIEWS[tab];
  const load = store.load.value;
  return (
    <>
      <a class="skip" href="#view" onClick={(event) => {
        // The address after # is the page's own state.
        event.preventDefault();
        document.getElementById("view")?.focus();
      }}>
        Skip to content
      </a>
      <Header
        tab={tab}
        onSearch={() => {
          dialog.value = "search";
        }}
        onHelp={() => {
          dialog.value = "help";
        }}
      />
      <main class="main">
       <div id="view" class={`view view-${tab}`} role="tabpanel" aria-labelledby={`tab-${tab}`} tabIndex={-1}>
        <Notices tab={tab} />
        {load.state === "error" ? (
          <Failure message={load.message} retry={again} />
        ) : load.state === "loading" ? (
          <Loading what={NAMES[tab]} rows={6} words="The connector has not told its state yet: waiting for it …" />
        ) : (
          <View />
        )}
       </div>
      </main>
      <Doing />
      {dialog.value === "help" && (
        <Help
          onClose={() => {
            close("help");
          }}
        />
      )}
      {dialog.value === "search" && (
        <Palette
          onClose={() => {
            close("search");
          }}
        />
      )}
    </>
  );
}

function Header(props: { tab: Tab; onSearch: () => void; onHelp: () => void }) {
  const status = store.status.value;
  return (
    <header class="top">
      <div class="brand">
        <svg viewBox="0 0 32 32" class="mark" aria-hidden="true">
          <path d="M6 16h20" />
          <circle class="mark-owed" cx="6" cy="16" r="4.5" />
          <circle class="mark-node" cx="16" cy="16" r="3.5" />
          <circle class="mark-owing" cx="26" cy="16" r="4.5" />
        </svg>
        <div class="who">
          <h1>{status?.nodeId ?? "ILP connector"}</h1>
          <span class="address" title="ILP address">
            {status?.ilpAddress ?? ""}
          </span>
        </div>
      </div>
      <nav class="tabs" role="tablist" aria-label="Views">
        {TABS.map((tab, index) => (
          <button
            key={tab}
            id={`tab-${tab}`}
            type="button"
            role="tab"
            aria-selected={tab === props.tab}
            aria-controls="view"
            tabIndex={tab === props.tab ? 0 : -1}
            class={cls("tab", tab === props.tab && "tab-on")}
            title={`${NAMES[tab]} (key ${index + 1})`}
            onClick={() => {
              goTo(tab);
            }}
            onKeyDown={(event) => {
              const next = TABS[stepped(event.key, index, TABS.length) ?? -1];
              if (next === undefined) return;
              event.preventDefault();
              goTo(next);
              document.getElementById(`tab-${next}`)?.focus();
            }}
          >
            <Icon name={tab} />
            <span class="tab-name">{NAMES[tab]}</span>
          </button>
        ))}
      </nav>
      <div class="tools">
        <Operator />
        <Live />
        <button type="button" class="tool" onClick={props.onSearch} aria-label="Search" title="Go to, find or do (Ctrl-K or /)">
          <Icon name="search" />
        </button>
        <ThemeButton />
        <button type="button" class="tool" onClick={props.onHelp} aria-label="Help" title="Help (?)">
          <Icon name="help" />
        </button>
      </div>
    </header>
  );
}

const THEME_ICONS = { system: "screen", dark: "moon", light: "sun" } as const;

/** From one to the next: as the system prefers, dark, light. */
function ThemeButton() {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
  const words = (one: Theme) => (one === "system" ? "as the system prefers" : one);
  return (
    <button
      type="button"
      class="tool tool-theme"
      data-testid="theme"
      data-theme={theme.value}
      aria-label={`Theme: ${words(theme.value)}`}
      title={`Theme: ${words(theme.value)}; then ${words(next)}`}
      onClick={() => {
        setTheme(next);
      }}
    >
      <Icon name={THEME_ICONS[theme.value]} />
    </button>
  );
}

function Live() {
  const connection = store.connection.value;
  const late = lateness();
  const [kind, text] =
    connection === "offline"
      ? (["bad", "offline"] as const)
      : connection === "connecting"
        ? (["wait", "connecting"] as const)
        : late !== null
          ? (["warn", late.silent ? "silent" : "behind"] as const)
          : (["live", "live"] as const);
  return (
    <span class={cls("live", `live-${kind}`)} role="status" data-testid="live" data-state={kind} title="The live feed of this page">
      <Dot kind={kind} />
      {text}
    </span>
  );
}

function lateness(): ReturnType<typeof behind> {
  return behind(store.lateMs.value, now.value - store.heardAt);
}

/** What stands in the way of seeing everything: said above the tab, in words. */
function Notices(props: { tab: Tab }) {
  const offline = store.connection.value !== "live" && store.load.value.state === "ready";
  const counted = store.countedPerMinute.value;
  const late = lateness();
  const accounting = store.status.value?.accounting;
  const gaps = store.gaps.value;
  const dropped = store.lastStatus.value?.eventsDropped ?? 0;
  return (
    <div class="notices" aria-live="polite">
      {offline && (
        <p class="notice notice-bad">
          <Icon name="stop" />
          No connection to the connector: what you see is from {lastSeen()}. Trying again.
        </p>
      )}
      {!offline && late !== null && (
        <p class="notice notice-warn" data-testid="behind">
          <Icon name="warn" />
          {late.silent
            ? `Nothing was heard from the connector for ${span(late.ms / 1000)}: what you see may be old.`
            : `The feed is ${span(late.ms / 1000)} behind: this page or the way to it is too slow.`}
        </p>
      )}
      {!offline && props.tab !== "dashboard" && accounting !== undefined && accounting.state !== "available" && (
        <p class={cls("notice", accounting.state === "spooling" ? "notice-warn" : "notice-bad")} data-testid="accounting-notice">
          <Icon name={accounting.state === "spooling" ? "warn" : "stop"} />
          {accountingInWords(accounting)}
        </p>
      )}
      {counted > 0 && (
        <p class="notice" data-testid="counted">
          In the last minute {plural(counted, "packet")} {counted === 1 ? "was" : "were"} only counted: more came than are
          kept whole. Rates and balances include them.
        </p>
      )}
      {gaps > 0 && (
        <p class="notice" data-testid="gaps">
          The feed was interrupted {gaps === 1 ? "once" : `${count(gaps)} times`} and has caught up; packets of that time are
          found by filter, not in the live list.
          <button
            type="button"
            class="link"
            onClick={() => {
              store.gaps.value = 0;
            }}
          >
            Dismiss
          </button>
        </p>
      )}
      {dropped > 0 && (
        <p class="notice notice-warn">
          {plural(dropped, "event")} {dropped === 1 ? "was" : "were"} lost on the way to the store since the connector started.
        </p>
      )}
    </div>
  );
}

function lastSeen(): string {
  return `${span(Math.max(0, now.value - store.heardAt) / 1000)} ago`;
}
