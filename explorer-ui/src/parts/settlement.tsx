/** Settlements that somebody has to do something about. */

import { exact } from "../model/format";
import { actions } from "../model/operate";
import type { SettlementItem } from "../model/types";
import { Chip, Money } from "./bits";
import { Act } from "./operate";

/** Whether somebody has to do something about a settlement. */
export function isAsked(one: SettlementItem): boolean {
  return one.phase === "waiting" || (one.phase === "booked" && one.payer === "operator");
}

/** A settlement that waits for an operator: what to do, with the amount, and the buttons for it. */
export function OpenSettlement(props: { one: SettlementItem; asset: { code: string; scale: number } }) {
  const { one, asset } = props;
  const value = BigInt(one.amount);
  const money = `${exact(value, asset.scale)} ${asset.code}`;
  const step = (name: "confirm" | "cancel" | "accept" | "decline") => actions.step(one.peerId, one.settlementId, name, money);
  const toPay = one.phase === "booked";
  return (
    <span class="open-settlement" data-testid="settlement-state" data-state={toPay ? "TO_PAY" : "WAITING"}>
      <Chip kind="warn">{toPay ? "pay, then confirm" : "received?"}</Chip> <Money value={value} asset={asset} />{" "}
      {(toPay ? (["confirm", "cancel"] as const) : (["accept", "decline"] as const)).map((name) => (
        <Act key={name} action={step(name)} small />
      ))}
    </span>
  );
}
