/** At the top of the page: its state in one sentence, then what needs somebody. */

import { useSignal } from "@preact/signals";
import { type InboxRow, needs } from "../model/inbox";
import { sentence } from "../model/sentence";
import { cls } from "../parts/bits";
import { Icon } from "../parts/icons";
import { Act } from "../parts/operate";
import { accounts, goTo, store } from "../state";

export function State(props: { rate: number | null; rows: readonly InboxRow[] }) {
  const { parts } = sentence({ peers: store.peers.value, accounts: accounts.value, rate: props.rate, needs: needs(props.rows) });
  return (
    <p class="sentence" data-testid="sentence" role="status" aria-live="off">
      {parts.map((part, index) => (
        <span key={part.key}>
          {index > 0 && ", "}
          <span class={cls("num", part.tone !== "" && `say-${part.tone}`)}>{part.text}</span>
        </span>
      ))}
    </p>
  );
}

const ROWS_FIRST = 8;

export function Inbox(props: { rows: readonly InboxRow[] }) {
  const all = useSignal(false);
  const { rows } = props;
  if (rows.length === 0) return null;
  const shown = all.value ? rows : rows.slice(0, ROWS_FIRST);
  return (
    <section class="panel inbox" aria-label="What needs attention">
      <ul data-testid="inbox">
        {shown.map((one) => (
          <Row key={one.key} row={one} />
        ))}
      </ul>
      {rows.length > ROWS_FIRST && (
        <button
          type="button"
          class="link pad"
          aria-expanded={all.value}
          onClick={() => {
            all.value = !all.value;
          }}
        >
          {all.value ? "Show fewer" : `Show ${rows.length - ROWS_FIRST} more`}
        </button>
      )}
    </section>
  );
}

function Row(props: { row: InboxRow; inner?: boolean }) {
  const { row } = props;
  const open = useSignal(false);
  const several = row.items.length > 0;
  return (
    <li class={cls("inbox-row", `inbox-${row.level}`, props.inner && "inbox-inner")} data-testid={props.inner ? undefined : "inbox-row"}>
      <div class="inbox-line">
        <Icon name={row.level === "rose" ? "stop" : "warn"} />
        <button
          type="button"
          class="inbox-text"
          {...(several ? { "aria-expanded": open.value } : {})}
          onClick={() => {
            if (several) open.value = !open.value;
            else goTo(row.tab, row.query);
          }}
        >
          <span>{row.text}</span>
          {row.detail !== "" && <small class="muted">{row.detail}</small>}
        </button>
        <span class="inbox-acts">
          {row.actions.map((action) => (
            <Act key={action.key} action={action} small />
          ))}
          {several && (
            <button
              type="button"
              class="button small"
              aria-label={`${open.value ? "Close" : "Open"}: ${row.text}`}
              onClick={() => {
                open.value = !open.value;
              }}
            >
              {open.value ? "Close" : "Open"}
            </button>
          )}
        </span>
      </div>
      {open.value && (
        <ul class="inbox-items">
          {row.items.map((one) => (
            <Row key={one.key} row={one} inner />
          ))}
        </ul>
      )}
    </li>
  );
}
