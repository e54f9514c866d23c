/** A peer as one object: what it owes and may owe, its routes, settlements and packets, and what can be done. */

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Account, creditUsed, levelOf, levelWords, towardsSettlement } from "../model/accounts";
import { get } from "../model/api";
import { balance, clock, exact, share } from "../model/format";
import { actions } from "../model/operate";
import type { Page, PeerItem, SettlementItem } from "../model/types";
import { Balance, Progress } from "../parts/bits";
import { Act } from "../parts/operate";
import { failed, routes, settlements, store } from "../state";

/** Everything that can be done with a peer. */
export function PeerActions(props: { peer: PeerItem; account: Account | undefined }) {
  const { peer, account } = props;
  const id = peer.peerId;
  return (
    <div class="peer-acts" data-testid="peer-acts">
      {(peer.dials !== false || peer.connected) && <Act action={actions.reconnect(id)} small />}
      {peer.enabled !== undefined && <Act action={actions.enable(id, !peer.enabled)} small />}
      {peer.offlineExpected !== undefined && <Act action={actions.expectOffline(id, !peer.offlineExpected)} small />}
      {account !== undefined && (
        <Act
          action={{
            ...actions.raiseLimit(id, { code: account.code, scale: account.scale }, exact(account.creditLimit, account.scale).replaceAll(",", "")),
            label: "Credit limit",
          }}
          small
        />
      )}
      {account !== undefined && account.net < 0n && (
        <Act action={actions.settleNow(id, `${balance(-account.net, account.scale)} ${account.code}`)} small />
      )}
      <Act action={actions.remove(id)} small />
    </div>
  );
}

/** What it owes, and how far its limits are used. */
export function PeerAccount(props: { account: Account }) {
  const { account } = props;
  const asset = { code: account.code, scale: account.scale };
  const credit = creditUsed(account);
  const settle = towardsSettlement(account);
  const words = (percent: number) => [share(percent), levelWords(percent)].filter(Boolean).join(", ");
  return (
    <div class="pad peer-account">
      <Progress
        label="Credit used"
        share={credit.share}
        level={levelOf(credit.share)}
        words={
          credit.share === null ? (
            "no credit given"
          ) : (
            <>
              <Balance value={credit.used} asset={asset} /> of <Balance value={account.creditLimit} asset={asset} /> · {words(credit.share)}
            </>
          )
        }
      />
      {settle !== null && account.threshold !== null && (
        <Progress
          label="To settlement"
          share={settle.share}
          level={levelOf(settle.share)}
          words={
            <>
              <Balance value={settle.owed} asset={asset} /> of <Balance value={account.threshold} asset={asset} /> · {words(settle.share)}
            </>
          }
        />
      )}
    </div>
  );
}

/** Prefixes that lead to it now. */
export function PeerRoutes(props: { peerId: string }) {
  const own = routes.value.filter((route) => route.nextHop === props.peerId);
  if (own.length === 0) return <p class="muted pad">No route leads to it now.</p>;
  const named = own.slice(0, ROUTES_NAMED_MAX).map((route) => (route.prefix === "" ? "everything else" : route.prefix));
  return (
    <p class="pad">
      Routes: <span class="mono break">{named.join(", ")}</span>
      {own.length > ROUTES_NAMED_MAX && <span class="muted"> and {own.length - ROUTES_NAMED_MAX} more</span>}
    </p>
  );
}

const ROUTES_NAMED_MAX = 8;
const SETTLEMENTS_SHOWN = 8;
const found = signal<{ readonly peerId: string; readonly items: readonly SettlementItem[] } | null>(null);
const fault = signal("");

async function load(peerId: string): Promise<void> {
  try {
    const page = await get<Page<SettlementItem>>("api/settlements", { peer: peerId, limit: SETTLEMENTS_SHOWN });
    found.value = { peerId, items: page.items };
    fault.value = "";
  } catch (error) {
    fault.value = failed(error);
  }
}

/** Its last settlements, with the words of the commands and of the API. */
export function PeerSettlements(props: { peerId: string }) {
  const { peerId } = props;
  const open = settlements.value;
  useEffect(() => {
    void load(peerId);
  }, [peerId, open, store.lastSettlement(peerId)?.seq]);
  if (fault.value !== "") {
    return (
      <p class="fault pad" role="alert">
        Settlements could not be loaded: {fault.value}
      </p>
    );
  }
  const items = found.value?.peerId === peerId ? found.value.items : [];
  if (items.length === 0) return null;
  return (
    <table class="grid" aria-label={`Settlements with ${peerId}`} data-testid="peer-settlements">
      <thead>
        <tr>
          <th scope="col">Settlement</th>
          <th scope="col" class="right">
            Amount
          </th>
          <th scope="col">Phase</th>
        </tr>
      </thead>
      <tbody>
        {items.map((one) => (
          <tr key={one.settlementId}>
            <td>
              <span class="num muted">{clock(one.createdMs)}</span> {one.direction === "incoming" ? "it paid us" : "we pay it"}
            </td>
            <td class="right">
              <Balance value={BigInt(one.amount)} asset={{ code: one.assetCode, scale: one.assetScale }} />
            </td>
            <td title={one.error}>{one.phase}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
