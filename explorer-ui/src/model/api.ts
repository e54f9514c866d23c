/** Requests to the daemon. Addresses are relative, so the page also works below a proxy's path. */

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const TIMEOUT_MS = 10_000;

function address(path: string): URL {
  return new URL(path.replace(/^\//, ""), document.baseURI);
}

async function ask(path: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(address(path), {
      ...init,
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new ApiError(0, "The connector does not answer.");
  }
  const type = response.headers.get("content-type") ?? "";
  const body: unknown = type.includes("json") ? await response.json() : null;
  if (!response.ok) throw new ApiError(response.status, said(body) ?? `${response.status} ${response.statusText}`);
  return body;
}

function said(body: unknown): string | null {
  if (typeof body !== "object" || body === null) return null;
  const text = (body as Record<string, unknown>)["error"] ?? (body as Record<string, unknown>)["detail"];
  return typeof text === "string" ? text : null;
}

export type Query = Readonly<Record<string, string | number | readonly string[] | null | undefined>>;

export function withSearch(path: string, query: Query): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? (value as readonly string[]) : [String(value)]) {
      search.append(key, one);
    }
  }
  const text = search.toString();
  return text === "" ? path : `${path}?${text}`;
}

export async function get<T>(path: string, query: Query = {}): Promise<T> {
  return (await ask(withSearch(path, query), { headers: { accept: "application/json" } })) as T;
}

export async function logIn(key: string): Promise<void> {
  await ask("login", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify({ key }),
  });
}

/** A login that may change something for a while. */
export async function logInToOperate(key: string): Promise<void> {
  await ask("login", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify({ key, operate: true }),
  });
}

export async function logOut(): Promise<void> {
  await ask("logout", { method: "POST" });
}

/** Where the live feed is. */
export function feedAddress(since: number | null): string {
  const url = address(withSearch("ws", { since }));
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
