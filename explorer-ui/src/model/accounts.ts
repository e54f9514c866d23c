/** Accounts as the page reckons with them. */

import { amount, percent, plural, units } from "./format";
import type { LevelLine } from "./points";
import type { AccountItem } from "./types";

export interface Account {
  readonly key: string;
  readonly peerId: string;
  readonly code: string;
  readonly scale: number;
  readonly debit: bigint;
  readonly credit: bigint;
  /** Positive: the peer owes us. */
  readonly net: bigint;
  readonly pendingDebits: bigint;
  readonly pendingCredits: bigint;
  readonly creditLimit: bigint;
  readonly available: bigint;
  readonly threshold: bigint | null;
  readonly settlement: string;
  /** Payments that the peer's engine reports and an operator has to accept or decline. */
  readonly waiting: Waiting;
}

export interface Waiting {
  readonly count: number;
  /** Of all of them together. */
  readonly amount: bigint;
}

export const NONE_WAITS: Waiting = { count: 0, amount: 0n };

export function accountKey(peerId: string, code: string, scale: number): string {
  return `${peerId}|${code}|${scale}`;
}

/** `known`: what waits, where the item does not say. */
export function accountOf(item: AccountItem, known: Waiting = NONE_WAITS): Account {
  return {
    key: accountKey(item.peerId, item.assetCode, item.assetScale),
    peerId: item.peerId,
    code: item.assetCode,
    scale: item.assetScale,
    debit: units(item.debitBalance),
    credit: units(item.creditBalance),
    net: units(item.netBalance),
    pendingDebits: units(item.pendingDebits),
    pendingCredits: units(item.pendingCredits),
    creditLimit: units(item.creditLimit),
    available: units(item.availableCredit),
    threshold: item.settlementThreshold === null ? null : units(item.settlementThreshold),
    settlement: item.settlementState,
    waiting:
      item.settlementsWaiting === undefined
        ? known
        : { count: item.settlementsWaiting, amount: units(item.settlementsWaitingAmount ?? "0") },
  };
}

/** What an operator has to decide, in words without the amount; empty: nothing waits. */
export function waitingInWords({ count }: Waiting): string {
  return count === 0 ? "" : `${plural(count, "payment")} ${count === 1 ? "waits" : "wait"} for an operator`;
}

export type Level = "calm" | "amber" | "rose";

/** Amber from 70 %, rose from 90 %. */
export function levelOf(share: number | null): Level {
  if (share === null || share < 70) return "calm";
  return share < 90 ? "amber" : "rose";
}

/** How much of its credit the peer uses, in percent: what it owes and what is held for it. */
export function creditUsed(account: Account): { used: bigint; share: number | null } {
  const used = account.creditLimit - account.available;
  const shown = used > 0n ? used : 0n;
  return { used: shown, share: percent(shown, account.creditLimit) };
}

/** How far what we owe has come towards the settlement threshold, in percent. */
export function towardsSettlement(account: Account): { owed: bigint; share: number } | null {
  if (account.threshold === null) return null;
  const owed = account.net < 0n ? -account.net : 0n;
  if (account.threshold === 0n) return { owed, share: owed > 0n ? 100 : 0 };
  return { owed, share: percent(owed, account.threshold) ?? 0 };
}

/** Where `levelOf` is in words, for those who do not see colours; nothing where all is calm. */
export function levelWords(share: number | null): string {
  const level = levelOf(share);
  if (share === null || level === "calm") return "";
  return share > 100 ? "above 100 %" : level === "amber" ? "above 70 %" : "above 90 %";
}

/** What the balance is compared with: what the peer may owe us, from where we settle, and what we may owe it. */
export function levelsOf(account: Account, maxPayable: bigint | null = null): LevelLine[] {
  const money = (value: bigint) => `${amount(value, account.scale)} ${account.code}`;
  const found: LevelLine[] = [];
  if (account.creditLimit > 0n) found.push({ value: account.creditLimit, label: `credit limit ${money(account.creditLimit)}`, kind: "limit" });
  if (account.threshold !== null) found.push({ value: -account.threshold, label: `settles from ${money(account.threshold)}`, kind: "threshold" });
  if (maxPayable !== null) found.push({ value: -maxPayable, label: `we may owe ${money(maxPayable)}`, kind: "limit" });
  return found;
}
