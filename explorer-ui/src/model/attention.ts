/** The accounting in words. */

import { plural } from "./format";
import type { AccountingView } from "./types";

export const ACCOUNTING_WORDS: Readonly<Record<string, string>> = {
  available: "available",
  spooling: "spooling: the ledger is away, packets go on",
  rejecting: "rejecting: new packets are refused",
  unavailable: "unavailable: new packets are refused",
};

/** What is the matter with the accounting, why, and how much waits for it. */
export function accountingInWords(accounting: AccountingView): string {
  const spooled = accounting.spooled ?? 0;
  const waits = spooled > 0 ? ` (${plural(spooled, "transfer")} ${spooled === 1 ? "waits" : "wait"})` : "";
  const why = accounting.reason ? `. ${accounting.reason}` : "";
  return `Accounting ${ACCOUNTING_WORDS[accounting.state] ?? accounting.state}${waits}${why}`;
}
