/** Doing something: the key once an hour, what will happen, a confirmation, and what became of it. */

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ApiError, get, logInToOperate } from "../model/api";
import { type Action, bodyOf, type Preview, previewPath, request, type Session, shownPath, unitsOf } from "../model/operate";
import { failed, loadAccounts, loadPeers, loadSettlements, now } from "../state";
import { cls, Dialog } from "./bits";

export const session = signal<Session | null>(null);
const endsAt = signal(0);
const doing = signal<{ readonly action: Action; readonly key: string } | null>(null);

export async function loadSession(): Promise<void> {
  try {
    const found = await get<Session>("api/session");
    session.value = found;
    endsAt.value = Date.now() + found.operatesForSeconds * 1000;
  } catch (error) {
    failed(error);
  }
}

function operates(): boolean {
  return session.value?.csrfToken != null && endsAt.value > Date.now();
}

/** Begin an action: nothing is done before it is confirmed. */
export function begin(action: Action): void {
  // A key of its own, so that a repeated request does it once.
  doing.value = { action, key: crypto.getRandomValues(new Uint32Array(4)).join("") };
}

/** A button for an action; nothing where the connector has no key to operate with. */
export function Act(props: { action: Action; small?: boolean }) {
  const { action } = props;
  if (session.value?.canOperate === false) return null;
  return (
    <button
      type="button"
      class={cls("button act", props.small && "small", action.danger && "act-danger")}
      aria-label={action.title}
      onClick={(event) => {
        event.stopPropagation();
        begin(action);
      }}
    >
      {action.label}
    </button>
  );
}

/** In the header: whether this browser may change something. */
export function Operator() {
  useEffect(() => {
    void loadSession();
  }, []);
  const known = session.value;
  if (known === null || !known.canOperate) return null;
  const minutes = Math.ceil((endsAt.value - now.value) / 60_000);
  const on = known.role === "operate" && minutes > 0;
  return (
    <span class={cls("operator", on && "operator-on")} data-testid="operator" data-role={on ? "operate" : "read"} title={on ? "This browser may change something" : "This page only reads, until something is to be done"}>
      {on ? `operating, ${minutes} min` : "read only"}
    </span>
  );
}

/** The dialog of the action that was begun. */
export function Doing() {
  const at = doing.value;
  return at === null ? null : <Steps key={at.key} action={at.action} id={at.key} />;
}

const fault = signal("");
const preview = signal<Preview | null>(null);
const busy = signal(false);
const done = signal("");
const asked = signal("");
const shownFor = signal("");

function close(): void {
  doing.value = null;
}

function Steps(props: { action: Action; id: string }) {
  const { action } = props;
  useEffect(() => {
    fault.value = done.value = shownFor.value = "";
    preview.value = action.effects === null ? null : { changes: [], effects: action.effects };
    busy.value = false;
    asked.value = action.ask?.value ?? "";
    if (operates()) void look(action);
  }, []);
  return (
    <Dialog label={action.title} class="doing" onClose={close}>
      <h2>{action.title}</h2>
      {done.value !== "" ? <Done /> : operates() ? <Confirm action={action} id={props.id} /> : <Key action={action} />}
      {fault.value !== "" && (
        <p class="fault" role="alert">
          {fault.value}
        </p>
      )}
    </Dialog>
  );
}

/** Ask the connector what it would do. */
async function look(action: Action): Promise<void> {
  if (action.effects !== null) return;
  const value = asked.value;
  if (action.ask !== undefined && unitsOf(value, action.ask.asset.scale) === null) {
    preview.value = null;
    fault.value = `That is no amount in ${action.ask.asset.code}.`;
    return;
  }
  try {
    const found = (await request(action.method, previewPath(action), bodyOf(action, value), session.value?.csrfToken ?? "")) as Preview;
    if (asked.value !== value) return;
    preview.value = found;
    shownFor.value = value;
    fault.value = "";
  } catch (error) {
    if (asked.value !== value) return;
    preview.value = null;
    fault.value = await said(error);
  }
}

async function lookAgain(action: Action): Promise<void> {
  const why = fault.value;
  await look(action);
  if (fault.value === "") fault.value = why;
}

async function said(error: unknown): Promise<string> {
  if (error instanceof ApiError && (error.status === 401 || error.status === 403)) await loadSession();
  return error instanceof Error ? error.message : String(error);
}

function Key(props: { action: Action }) {
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const key = String(new FormData(form).get("key") ?? "");
    busy.value = true;
    fault.value = "";
    try {
      await logInToOperate(key);
      form.reset();
      await loadSession();
      await look(props.action);
    } catch (error) {
      fault.value = error instanceof ApiError && error.status === 401 ? "That is not the ADMIN_API_KEY." : error instanceof Error ? error.message : String(error);
    }
    busy.value = false;
  };
  return (
    <form onSubmit={(event) => void submit(event)}>
      <p>This page only reads. To change something for the next hour, give the connector's ADMIN_API_KEY.</p>
      <label for="operate-key">ADMIN_API_KEY</label>
      <input id="operate-key" name="key" class="input wide" type="password" autocomplete="current-password" required autofocus />
      <div class="doing-foot">
        <button type="button" class="button" onClick={close}>
          Not now
        </button>
        <button type="submit" class="button button-main" disabled={busy.value}>
          Operate
        </button>
      </div>
    </form>
  );
}

function Confirm(props: { action: Action; id: string }) {
  const { action } = props;
  const { ask } = action;
  const told = preview.value;
  const stale = ask !== undefined && shownFor.value !== asked.value;
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    busy.value = true;
    fault.value = "";
    try {
      await request(action.method, shownPath(action, told), bodyOf(action, asked.value), session.value?.csrfToken ?? "", action.method === "POST" ? props.id : undefined);
      done.value = action.done;
      void loadPeers();
      void loadSettlements();
      void loadAccounts();
    } catch (error) {
      fault.value = await said(error);
      // It may be that it would do something else now: what it would do is shown anew.
      if (error instanceof ApiError && error.status === 409) await lookAgain(action);
    }
    busy.value = false;
  };
  return (
    <form onSubmit={(event) => void submit(event)}>
      {ask !== undefined && (
        <>
          <label for="asked">{ask.label}</label>
          <input
            id="asked"
            class="input wide num"
            inputmode="decimal"
            autofocus
            value={asked.value}
            onInput={(event) => {
              asked.value = event.currentTarget.value;
              void look(action);
            }}
          />
        </>
      )}
      {told === null ? (
        fault.value === "" && <p role="status">Asking the connector what it would do …</p>
      ) : (
        <div class="effects" data-testid="effects">
          {told.changes.length > 0 && (
            <table class="grid">
              <thead>
                <tr>
                  <th scope="col">Setting</th>
                  <th scope="col">Now</th>
                  <th scope="col">Then</th>
                </tr>
              </thead>
              <tbody>
                {told.changes.map((one) => (
                  <tr key={one.target + one.field}>
                    <th scope="row">{one.field}</th>
                    <td class="num">{one.from}</td>
                    <td class="num">{one.to}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
          <ul>
            {told.effects.map((one) => (
              <li key={one}>{one}</li>
            ))}
          </ul>
        </div>
      )}
      <div class="doing-foot">
        <button type="button" class="button" onClick={close}>
          Do nothing
        </button>
        <button type="submit" class={cls("button button-main", action.danger && "act-danger")} disabled={busy.value || told === null || stale} data-testid="do-it">
          {busy.value ? "Doing it …" : action.label}
        </button>
      </div>
    </form>
  );
}

function Done() {
  return (
    <>
      <p role="status" data-testid="done">
        {done.value}
      </p>
      <div class="doing-foot">
        <button type="button" class="button button-main" autofocus onClick={close}>
          Close
        </button>
      </div>
    </>
  );
}
