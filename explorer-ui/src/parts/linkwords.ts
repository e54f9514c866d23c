/** How a link of the network is, in words. */

import { balance, count } from "../model/format";
import type { NetLink, NetPicture, Verdict } from "../model/network";
import { settlements } from "../state";

export function nameOf(picture: NetPicture, key: string): string {
  return picture.nodes.find((node) => node.key === key)?.id ?? key;
}

export const VERDICTS: Readonly<Record<Verdict, string>> = {
  mirrored: "books agree",
  "in motion": "in motion",
  settling: "settlement under way",
  differs: "books differ",
  "one side": "one side only",
  "not asked": "",
  "last known": "last known",
};

const MARKS: Readonly<Record<Verdict, string>> = { mirrored: "✓", "in motion": "↔", settling: "↔", differs: "≠", "one side": "", "not asked": "", "last known": "…" };

export const STATES: Readonly<Record<NetLink["state"], string>> = { up: "", down: "link down", away: "away, expected", unknown: "" };

/** What an open settlement on a link is, with its amount where it is known. */
export function settlementWords(link: NetLink, self: string): string {
  const { settlement: open } = link;
  if (open === null) return "";
  let amount = open.amount;
  if (amount === null && (link.a === self || link.b === self)) {
    const peer = link.a === self ? link.b : link.a;
    const own = settlements.value.filter((one) => one.peerId === peer && one.assetCode === link.code && one.assetScale === link.scale);
    if (own.length > 0) amount = own.reduce((sum, one) => sum + BigInt(one.amount), 0n);
  }
  const what = open.state === "waits" ? "settlement waits for an operator" : open.state === "pending" ? "settlement pending" : "settling";
  return amount === null ? what : `${what}, ${balance(amount, link.scale)} ${link.code}`;
}

/** How a link is, most telling first: broken, then its books, then what passes. */
export function linkWords(link: NetLink, self: string): string {
  const { netAtA, netAtB } = link;
  const parts = [STATES[link.state]];
  if (link.verdict === "differs" && netAtA !== null && netAtB !== null) {
    const sum = netAtA + netAtB;
    parts.push(`${MARKS.differs} books differ by ${balance(sum < 0n ? -sum : sum, link.scale)} ${link.code}`);
  } else if (link.settlement === null) {
    parts.push(`${MARKS[link.verdict]} ${VERDICTS[link.verdict]}`.trim());
  }
  parts.push(settlementWords(link, self));
  if (link.rate !== null && link.rate > 0) parts.push(`${count(Math.round(link.rate * 10) / 10)} /s`);
  return parts.filter(Boolean).join(" · ");
}
