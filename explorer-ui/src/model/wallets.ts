/** What the page says of payments. */

import type { Asset } from "./format";
import type { IncomingPayment } from "./types";

/** `USD/9` as an asset; the code is what others have said, and may have a slash. Null: it is none. */
export function readAsset(text: string): Asset | null {
  const at = text.lastIndexOf("/");
  const scale = Number(text.slice(at + 1));
  if (at < 1 || text.slice(at + 1) === "" || !Number.isInteger(scale) || scale < 0 || scale > 255) return null;
  return { code: text.slice(0, at), scale };
}

/** How far the webhook is with a payment; null: it is not told of it. */
export function webhookInWords(one: IncomingPayment): { readonly kind: string; readonly words: string } | null {
  switch (one.webhook) {
    case "none":
      return null;
    case "told":
      return { kind: "ok", words: "told" };
    case "dead":
      return { kind: "bad", words: "could not be told" };
    case "waiting":
      return one.webhookAttempts === 0
        ? { kind: "wait", words: "to be told" }
        : { kind: "warn", words: `tried ${one.webhookAttempts === 1 ? "once" : `${one.webhookAttempts} times`}` };
  }
}
