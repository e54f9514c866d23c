/** What an operator can do from the page: requests to the admin API, with what they would do told first. */

import { ApiError, withSearch } from "./api";
import type { Asset } from "./format";

/** `/api/session`. */
export interface Session {
  readonly role: "read" | "operate";
  readonly loggedIn: boolean;
  /** Whether there is an ADMIN_API_KEY to log in with. */
  readonly canOperate: boolean;
  readonly operatesForSeconds: number;
  readonly csrfToken: string | null;
}

export interface Preview {
  readonly changes: readonly { readonly target: string; readonly field: string; readonly from: string; readonly to: string }[];
  readonly effects: readonly string[];
  /** For the request that is confirmed; not of what the page says by itself. */
  readonly shown?: string;
}

export type Values = Readonly<Record<string, string>>;

/** A field that is filled in before. */
export interface Field {
  /** As in the body of the request. */
  readonly name: string;
  readonly label: string;
  /** `list`: divided by commas; `secret`: one can be made. */
  readonly kind: "amount" | "text" | "count" | "choice" | "list" | "secret";
  readonly value: string;
  /** Of an amount; it may depend on what else is filled in. */
  readonly asset?: Asset | ((values: Values) => Asset);
  readonly options?: readonly (readonly [value: string, label: string])[];
  /** Whether it must be filled in. */
  readonly need?: boolean;
  readonly hint?: string;
}

/** One thing that can be done. */
export interface Action {
  readonly key: string;
  readonly label: string;
  /** Of the dialog. */
  readonly title: string;
  readonly method: "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly body?: Readonly<Record<string, unknown>>;
  /** What it does; null: the connector says it (`preview=true`). */
  readonly effects: readonly string[] | ((values: Values) => readonly string[]) | null;
  readonly fields?: readonly Field[];
  /** Whether only fields that are other than they were are sent; one that was emptied is null, which is its default. */
  readonly changesOnly?: boolean;
  readonly danger?: boolean;
  /** What is said when it is done; it may say what the connector has answered. */
  readonly done: string | ((answer: unknown) => string);
}

const TIMEOUT_MS = 65_000;

/** A request that may change something; its answer, or null where there is none. */
export async function request(method: string, path: string, body: unknown, csrf: string, key?: string): Promise<unknown> {
  let response: Response;
  const headers: Record<string, string> = { accept: "application/json", "x-csrf-token": csrf };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key !== undefined) headers["idempotency-key"] = key;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method,
      headers,
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new ApiError(0, "The connector does not answer. Whether it was done is shown when it is back.");
  }
  const type = response.headers.get("content-type") ?? "";
  const answer: unknown = type.includes("json") ? await response.json() : null;
  if (response.ok) return answer;
  const said = (answer as { error?: unknown } | null)?.error;
  throw new ApiError(response.status, typeof said === "string" ? said : `${response.status} ${response.statusText}`);
}

export function previewPath(action: Action): string {
  return withMore(action.path, { preview: "true" });
}

/** Of an action that was shown: the connector does it only where it would show the same again. */
export function shownPath(action: Action, told: Preview | null): string {
  return told?.shown === undefined ? action.path : withMore(action.path, { shown: told.shown });
}

function withMore(whole: string, more: Readonly<Record<string, string>>): string {
  const [path = "", search = ""] = whole.split("?", 2);
  return withSearch(path, { ...Object.fromEntries(new URLSearchParams(search)), ...more });
}

/** Smallest units of what was typed, `1.25` or `1,000.5`, in an asset; null: it is no amount of it. */
export function unitsOf(text: string, scale: number): bigint | null {
  const found = /^([0-9][0-9,]*)(?:\.([0-9]+))?$/.exec(text.trim());
  if (found === null) return null;
  const fraction = (found[2] ?? "").replace(/0+$/, "");
  if (fraction.length > scale) return null;
  const units = BigInt((found[1] ?? "").replaceAll(",", "") + fraction.padEnd(scale, "0"));
  return units <= 2n ** 64n - 1n ? units : null;
}

export function startOf(action: Action): Values {
  return Object.fromEntries((action.fields ?? []).map((field) => [field.name, field.value]));
}

export function assetOf(field: Field, values: Values): Asset {
  const asset = typeof field.asset === "function" ? field.asset(values) : field.asset;
  return asset ?? { code: "", scale: 0 };
}

/** What is not filled in and must be. */
export function missingIn(action: Action, values: Values): Field | undefined {
  return (action.fields ?? []).find((field) => field.need === true && (values[field.name] ?? "").trim() === "");
}

/** What is wrong in the fields, in words; empty: nothing. */
export function wrongIn(action: Action, values: Values): string {
  for (const field of action.fields ?? []) {
    const text = (values[field.name] ?? "").trim();
    if (text === "" && (field.need !== true || missingIn(action, values) !== undefined)) continue;
    const asset = assetOf(field, values);
    if (field.kind === "amount" && unitsOf(text, asset.scale) === null) return `That is no amount in ${asset.code}.`;
    if (field.kind === "count" && !/^\d{1,9}$/.test(text)) return `${field.label}: that is no whole number.`;
  }
  return "";
}

function valueOf(field: Field, text: string, values: Values): unknown {
  switch (field.kind) {
    case "amount":
      return unitsOf(text, assetOf(field, values).scale)?.toString();
    case "count":
      return Number(text);
    case "list":
      return text.split(",").map((one) => one.trim()).filter((one) => one !== "");
    default:
      return text;
  }
}

/** The body of an action with what was filled in. */
export function bodyOf(action: Action, values: Values): Readonly<Record<string, unknown>> | undefined {
  if (action.fields === undefined) return action.body;
  const body: Record<string, unknown> = { ...action.body };
  for (const field of action.fields) {
    const text = (values[field.name] ?? "").trim();
    if (action.changesOnly === true && text === field.value) continue;
    if (text !== "") body[field.name] = valueOf(field, text, values);
    else if (action.changesOnly === true) body[field.name] = null;
  }
  return body;
}

export const peerPath = (peerId: string) => `admin/peers/${encodeURIComponent(peerId)}`;

export const actions = {
  reconnect: (peerId: string): Action => ({
    key: `reconnect ${peerId}`,
    label: "Reconnect",
    title: `Reconnect ${peerId}`,
    method: "POST",
    path: `${peerPath(peerId)}/reconnect`,
    effects: [`the link with ${peerId} is closed if there is one, and it is dialled at once where it has a URL`],
    done: "It is being dialled.",
  }),
  expectOffline: (peerId: string, expected: boolean): Action => ({
    key: `offline ${peerId} ${expected}`,
    label: expected ? "Expected offline" : "Expect it online",
    title: `${peerId}: ${expected ? "expected offline" : "expected online"}`,
    method: "PATCH",
    path: peerPath(peerId),
    body: { offlineExpected: expected },
    effects: null,
    done: expected ? "It may be offline: no alarm." : "A missing link is an alarm again.",
  }),
  enable: (peerId: string, enabled: boolean): Action => ({
    key: `enable ${peerId} ${enabled}`,
    label: enabled ? "Enable" : "Disable",
    title: `${enabled ? "Enable" : "Disable"} ${peerId}`,
    method: "PATCH",
    path: peerPath(peerId),
    body: { enabled },
    effects: null,
    danger: !enabled,
    done: enabled ? "It is enabled." : "It is disabled.",
  }),
  remove: (peerId: string): Action => ({
    key: `remove ${peerId}`,
    label: "Drain and remove",
    title: `Remove ${peerId}`,
    method: "DELETE",
    path: peerPath(peerId),
    effects: null,
    danger: true,
    done: "It was removed.",
  }),
  raiseLimit: (peerId: string, asset: Asset, limit: string): Action => ({
    key: `limit ${peerId}`,
    label: "Raise limit",
    title: `Credit limit of ${peerId}`,
    method: "PUT",
    path: `${peerPath(peerId)}/limits`,
    body: {},
    fields: [{ name: "creditLimit", label: `It may owe us, in ${asset.code}`, kind: "amount", need: true, asset, value: limit }],
    effects: null,
    done: "The limit was changed.",
  }),
  settleNow: (peerId: string, owed: string): Action => ({
    key: `settle ${peerId}`,
    label: "Settle now",
    title: `Settle with ${peerId}`,
    method: "POST",
    path: `admin/accounts/${encodeURIComponent(peerId)}/settlements`,
    body: { direction: "outgoing", execute: true },
    effects: [
      `we owe ${peerId} ${owed}: what of it is not held for packets is booked as paid, and its settlement engine is asked to pay it`,
      "without an engine, an operator pays it and confirms",
    ],
    done: "The settlement has begun.",
  }),
  step: (peerId: string, id: string, step: "confirm" | "cancel" | "accept" | "decline" | "retry", money: string, force = false): Action => {
    const words: Record<string, readonly [string, string, string]> = {
      confirm: ["Confirm paid", `${money} to ${peerId} is noted as paid; it was booked when it was asked for`, "It is noted as paid."],
      cancel: ["Cancel", `${money} to ${peerId} will not be paid: it is booked back, and is owed again`, "It is booked back."],
      accept: ["Accept", `${money} from ${peerId}, as its engine reports it, is credited`, "It is credited."],
      decline: ["Decline", `${money} that the engine of ${peerId} reports is not credited: it was not received`, "It was declined."],
      retry: ["Retry", `the engine of ${peerId} is asked for ${money} again now, under the same key: it pays once`, "It is asked again."],
    };
    const [label, effect, done] = words[step] ?? ["", "", ""];
    return {
      key: `${step} ${id}`,
      label,
      title: `${label}: ${money}`,
      method: "POST",
      path: `admin/accounts/${encodeURIComponent(peerId)}/settlements/${id}/${step}`,
      ...(force ? { body: { force: true } } : {}),
      effects: force ? [effect, "its engine was asked and may have paid: make sure that it has not, and will not"] : [effect],
      danger: step === "cancel" || step === "decline",
      done,
    };
  },
};
