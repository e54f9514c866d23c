/** Wallets of this node, what they were paid, and what this node has paid. Nothing on a node without any. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "../model/api";
import { dateClock, plural, type Asset, units } from "../model/format";
import type { IncomingPage, IncomingPayment, OutgoingPayment, Page, WalletItem } from "../model/types";
import { readAsset, webhookInWords } from "../model/wallets";
import { Chip, Failure, Money, Panel } from "../parts/bits";
import { failed, now, store } from "../state";

const LOOK_MS = 2000;
/** Where there is nothing to show. */
const LOOK_SELDOM_MS = 15_000;
const SHOWN = 25;

interface Known {
  readonly wallets: readonly WalletItem[];
  readonly came: IncomingPage;
  readonly paid: readonly OutgoingPayment[];
}

export function Wallets() {
  const known = useSignal<Known | null>(null);
  const fault = useSignal("");
  const asked = useSignal({ at: 0, open: false });
  const look = async () => {
    if (asked.value.open) return;
    asked.value = { at: Date.now(), open: true };
    try {
      const [wallets, came, paid] = await Promise.all([
        get<Page<WalletItem>>("api/wallets"),
        get<IncomingPage>("api/wallets/payments", { limit: SHOWN }),
        get<Page<OutgoingPayment>>("api/payments", { limit: SHOWN }),
      ]);
      known.value = { wallets: wallets.items, came, paid: paid.items };
      fault.value = "";
    } catch (error) {
      fault.value = failed(error);
    }
    asked.value = { at: Date.now(), open: false };
  };
  // The page's clock stands still while nobody looks at it.
  const tick = now.value;
  const { value } = known;
  const isBare = value !== null && value.wallets.length + value.came.items.length + value.paid.length === 0;
  useEffect(() => {
    if (store.connection.value !== "live") return;
    if (Date.now() - asked.value.at >= (isBare ? LOOK_SELDOM_MS : LOOK_MS)) void look();
  }, [tick]);
  if (value === null) {
    if (fault.value === "") return null;
    return (
      <div class="wallets">
        <Panel title="Wallets">
          <Failure message={fault.value} retry={() => void look()} />
        </Panel>
      </div>
    );
  }
  const { wallets, came, paid } = value;
  return (
    <div class="wallets">
      {wallets.length > 0 && <Balances wallets={wallets} />}
      {(wallets.length > 0 || came.items.length > 0) && <Came page={came} />}
      {paid.length > 0 && <Paid payments={paid} />}
    </div>
  );
}

function Balances(props: { wallets: readonly WalletItem[] }) {
  return (
    <Panel title="Wallets" aside={<span class="muted">{plural(props.wallets.length, "wallet")}</span>}>
      <div class="scroll-x">
        <table class="grid" data-testid="wallets">
          <thead>
            <tr>
              <th scope="col">Wallet</th>
              <th scope="col">Balance</th>
              <th scope="col">Under way</th>
              <th scope="col" class="roomy">Paid at</th>
            </tr>
          </thead>
          <tbody>
            {props.wallets.map((one) => {
              const asset = { code: one.assetCode, scale: one.assetScale };
              return (
                <tr key={`${one.wallet} ${one.assetCode}/${one.assetScale}`}>
                  <th scope="row">{one.wallet}</th>
                  <td>
                    <Money value={units(one.balance)} asset={asset} />
                  </td>
                  <td>{one.pending === "0" ? "–" : <Money value={units(one.pending)} asset={asset} />}</td>
                  <td class="roomy mono">{one.payUrl ?? "–"}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

function Came(props: { page: IncomingPage }) {
  const { items, webhooksDead, webhooksWaiting } = props.page;
  return (
    <Panel
      title="Payments in"
      aside={
        webhooksDead > 0 ? (
          <Chip kind="bad" title="received --dead shows them">{webhooksDead} could not be told</Chip>
        ) : webhooksWaiting > 0 ? (
          <Chip kind="warn">{webhooksWaiting} to be told</Chip>
        ) : undefined
      }
    >
      {items.length === 0 ? (
        <p class="muted pad">Nothing has come in yet.</p>
      ) : (
        <div class="scroll-x">
          <table class="grid" data-testid="payments-in">
            <thead>
              <tr>
                <th scope="col">Last packet</th>
                <th scope="col">Wallet</th>
                <th scope="col">Amount</th>
                <th scope="col">State</th>
                <th scope="col" class="roomy">Webhook</th>
                <th scope="col" class="roomy">Packets</th>
              </tr>
            </thead>
            <tbody>
              {items.map((one) => (
                <CameRow key={one.id} payment={one} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

function CameRow(props: { payment: IncomingPayment }) {
  const one = props.payment;
  const asset: Asset = { code: one.assetCode, scale: one.assetScale };
  const told = webhookInWords(one);
  return (
    <tr title={one.id}>
      <td>{dateClock(Date.parse(one.lastAt))}</td>
      <th scope="row">{one.wallet}</th>
      <td>
        <Money value={units(one.amount)} asset={asset} />
        {one.atLeast && <span class="muted"> or more</span>}
      </td>
      <td>{one.ended === null ? <Chip kind="wait">coming in</Chip> : <Chip kind="ok">has come in</Chip>}</td>
      <td class="roomy">{told === null ? "–" : <Chip kind={told.kind} title={one.webhookFault ?? ""}>{told.words}</Chip>}</td>
      <td class="roomy num">{one.packets}</td>
    </tr>
  );
}

const STATES = { running: "wait", completed: "ok", failed: "bad", interrupted: "warn" } as const;

function Paid(props: { payments: readonly OutgoingPayment[] }) {
  return (
    <Panel title="Payments out">
      <div class="scroll-x">
        <table class="grid" data-testid="payments-out">
          <thead>
            <tr>
              <th scope="col">To</th>
              <th scope="col">Sent</th>
              <th scope="col">State</th>
              <th scope="col" class="roomy">Delivered</th>
              <th scope="col" class="roomy">Why</th>
            </tr>
          </thead>
          <tbody>
            {props.payments.map((one) => (
              <tr key={one.key} title={one.key}>
                <th scope="row" class="mono">{one.target.length > 48 ? `${one.target.slice(0, 47)}…` : one.target}</th>
                <td>
                  <Money value={units(one.sent)} asset={readAsset(one.asset)} />
                  {one.sent !== one.amount && (
                    <span class="muted">
                      {" "}
                      of <Money value={units(one.amount)} asset={readAsset(one.asset)} unit={false} />
                    </span>
                  )}
                </td>
                <td>
                  <Chip kind={STATES[one.state]}>{one.state}</Chip>
                </td>
                <td class="roomy">
                  {one.receiverAsset === null ? "–" : <Money value={units(one.delivered)} asset={readAsset(one.receiverAsset)} />}
                </td>
                <td class="roomy muted">{one.reason}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}
