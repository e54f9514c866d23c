/** Doing something: the key once an hour, what will happen, a confirmation, and what became of it. */

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, logInToOperate } from "../model/api";
import {
  type Action,
  assetOf,
  bodyOf,
  type Field,
  missingIn,
  type Preview,
  previewPath,
  request,
  type Session,
  shownPath,
  startOf,
  type Values,
  wrongIn,
} from "../model/operate";
import { failed, loadAccounts, loadPeers, loadRoutes, loadSettlements, now } from "../state";
import { cls, Dialog } from "./bits";
import { Copy } from "./copy";

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
const values = signal<Values>({});
/** The values that the preview is of. */
const shownFor = signal<Values | null>(null);

/** After the last letter that was typed. */
const TYPED_MS = 200;

function close(): void {
  doing.value = null;
  // A secret that was typed or made is not kept.
  values.value = {};
}

function Steps(props: { action: Action; id: string }) {
  const { action } = props;
  useEffect(() => {
    fault.value = done.value = "";
    shownFor.value = null;
    preview.value = null;
    busy.value = false;
    values.value = startOf(action);
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

/** What it would do: the connector is asked, where the page does not know. */
async function look(action: Action): Promise<void> {
  const given = values.value;
  const wrong = wrongIn(action, given);
  if (wrong !== "" || missingIn(action, given) !== undefined) {
    preview.value = null;
    fault.value = wrong;
    return;
  }
  if (action.effects !== null) {
    preview.value = { changes: [], effects: typeof action.effects === "function" ? action.effects(given) : action.effects };
    shownFor.value = given;
    fault.value = "";
    return;
  }
  try {
    const found = (await request(action.method, previewPath(action), bodyOf(action, given), session.value?.csrfToken ?? "")) as Preview;
    if (values.value !== given) return;
    preview.value = found;
    shownFor.value = given;
    fault.value = "";
  } catch (error) {
    if (values.value !== given) return;
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
  const fields = action.fields ?? [];
  const told = preview.value;
  const stale = fields.length > 0 && shownFor.value !== values.value;
  const missing = missingIn(action, values.value);
  const timer = useRef(0);
  useEffect(
    () => () => {
      window.clearTimeout(timer.current);
    },
    [],
  );
  const put = (name: string, text: string) => {
    values.value = { ...values.value, [name]: text };
    window.clearTimeout(timer.current);
    timer.current = window.setTimeout(() => void look(action), TYPED_MS);
  };
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    busy.value = true;
    fault.value = "";
    try {
      const answer = await request(action.method, shownPath(action, told), bodyOf(action, values.value), session.value?.csrfToken ?? "", action.method === "POST" ? props.id : undefined);
      done.value = typeof action.done === "function" ? action.done(answer) : action.done;
      void loadPeers();
      void loadRoutes();
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
      {fields.length > 0 && (
        <div class={cls("fields", fields.length > 3 && "fields-many")}>
          {fields.map((field, index) => (
            <FieldRow key={field.name} field={field} first={index === 0} value={values.value[field.name] ?? ""} onValue={put} />
          ))}
        </div>
      )}
      {told === null ? (
        fault.value === "" && (
          <p role="status" class="muted">
            {missing !== undefined ? `Needed: ${missing.label}. Then it is said here what will happen.` : "Asking the connector what it would do …"}
          </p>
        )
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
            {told.effects.length === 0 && told.changes.length === 0 && <li>nothing: it is all as it was</li>}
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

function FieldRow(props: { field: Field; first: boolean; value: string; onValue: (name: string, text: string) => void }) {
  const { field, first, value, onValue } = props;
  const [made, setMade] = useState(false);
  const id = `field-${field.name}`;
  useEffect(() => {
    // An attribute does it only when the dialog opens, which the form of the key may have come before.
    if (first) document.getElementById(id)?.focus();
  }, []);
  const asset = field.kind === "amount" ? assetOf(field, values.value) : null;
  // Of an asset that is chosen in the form, the name stands in no label.
  const label = asset !== null && typeof field.asset === "function" ? `${field.label}, in ${asset.code}` : field.label;
  const common = {
    id,
    class: cls("input wide", (field.kind === "amount" || field.kind === "count") && "num", field.kind === "secret" && "mono"),
    value,
    required: field.need === true,
    ...(field.hint === undefined ? {} : { "aria-describedby": `${id}-hint` }),
  };
  const write = (event: { currentTarget: { value: string } }) => {
    onValue(field.name, event.currentTarget.value);
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {field.kind === "choice" ? (
        <select {...common} onChange={write}>
          {(field.options ?? []).map(([option, words]) => (
            <option key={option} value={option}>
              {words}
            </option>
          ))}
        </select>
      ) : (
        <input
          {...common}
          {...({ type: field.kind === "secret" && !made ? "password" : "text" } as { type: "text" })}
          inputmode={field.kind === "amount" ? "decimal" : field.kind === "count" ? "numeric" : "text"}
          autocomplete={field.kind === "secret" ? "new-password" : "off"}
          spellcheck={false}
          onInput={write}
        />
      )}
      {field.kind === "secret" && (
        <span class="field-secret">
          <button
            type="button"
            class="link"
            onClick={() => {
              setMade(true);
              onValue(field.name, [...crypto.getRandomValues(new Uint8Array(24))].map((one) => one.toString(16).padStart(2, "0")).join(""));
            }}
          >
            Make one
          </button>
          {made && <Copy text={value} what="the secret" />}
        </span>
      )}
      {field.hint !== undefined && (
        <small class="muted" id={`${id}-hint`}>
          {field.hint}
        </small>
      )}
    </div>
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
