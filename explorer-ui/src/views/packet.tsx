/** The story of one packet: what happened when, and what the ledger has of it. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ApiError, get, withSearch } from "../model/api";
import { amount, dateClock, duration, exact, units } from "../model/format";
import type { PacketDetail } from "../model/types";
import { Chip, cls, Failure, Loading, Money, useFocusBack } from "../parts/bits";
import { Copy } from "../parts/copy";
import { Icon } from "../parts/icons";
import { failed, goTo, place, setQuery, store } from "../state";
import { type Around, name, StateChip } from "./packets";
import { WayButton } from "./way";

/** So long the story of the packet before may stand, dimmed, while another one is loaded. */
const STALE_MS = 400;

const WORDS: Readonly<Record<string, string>> = {
  received: "Received",
  reserved: "Reserved in the ledger",
  forwarded: "Forwarded",
  answered: "Answered by the next hop",
  posted: "Posted in the ledger",
  voided: "Given back in the ledger",
  fulfilled: "Fulfilled",
  rejected: "Rejected",
};

const TRANSFER_WORDS: Readonly<Record<string, string>> = {
  reserve: "reserve (pending)",
  post: "post (final)",
  void: "void (given back)",
};

/** `around`: what can be stepped to. */
export function PacketDrawer(props: { id: string; around?: Around }) {
  const { id, around } = props;
  const detail = useSignal<PacketDetail | null>(null);
  const fault = useSignal<{ status: number; message: string } | null>(null);
  const box = useRef<HTMLElement>(null);
  // Read so that the drawer follows the packet while its answer is on the way.
  const version = store.packetsVersion.value;
  const row = store.packets.get(id);
  const state = row?.state ?? "";

  const load = async () => {
    try {
      const found = await get<PacketDetail>(`api/packets/${encodeURIComponent(id)}`);
      // Another one may have been stepped to meanwhile.
      if (latest.current !== id) return;
      detail.value = found;
      fault.value = null;
    } catch (error) {
      if (latest.current !== id) return;
      detail.value = null;
      fault.value = { status: error instanceof ApiError ? error.status : 0, message: failed(error) };
    }
  };

  useEffect(() => {
    void load();
    // What just happened is stored a moment later.
    const timers = [300, 1200, 3000].map((ms) =>
      window.setTimeout(() => {
        if (detail.value?.packetId !== id || detail.value.status === "pending") void load();
      }, ms),
    );
    // A story that is late is not that of the packet before.
    timers.push(
      window.setTimeout(() => {
        if (detail.value !== null && detail.value.packetId !== id) detail.value = null;
      }, STALE_MS),
    );
    return () => {
      timers.forEach(window.clearTimeout);
    };
  }, [id, state]);
  const latest = useRef(id);
  latest.current = id;
  useFocusBack(box, () => document.querySelector(`[data-id="${CSS.escape(latest.current)}"]`));
  useEffect(() => {
    if (box.current?.contains(document.activeElement) === false) box.current.focus({ preventScroll: true });
  }, [id]);

  const known = detail.value;
  return (
    <aside class="drawer" aria-label="Packet" ref={box} tabIndex={-1} data-testid="packet-drawer" data-version={version > 0 ? "live" : ""}>
      <header class="drawer-head">
        <div>
          <h2>Packet</h2>
          <code class="drawer-id">{id}</code> <Copy text={id} what="the packet id" />
        </div>
        <div class="drawer-tools">
          {around !== undefined && <Step to={around.newer} icon="previous" label="Newer packet" letter="k" />}
          {around !== undefined && <Step to={around.older} icon="next" label="Older packet" letter="j" />}
          <button
            type="button"
            class="tool"
            aria-label="Close"
            onClick={() => {
              setQuery({ packet: "" });
            }}
          >
            <Icon name="close" />
          </button>
        </div>
      </header>
      {known !== null ? (
        <div class={cls("drawer-story", known.packetId !== id && "drawer-stale")} aria-busy={known.packetId !== id}>
          <Story packet={known} />
        </div>
      ) : fault.value === null ? (
        <Loading what="the packet" rows={6} />
      ) : fault.value.status === 404 && row !== undefined ? (
        <>
          <p>
            <StateChip row={row} state={row.state} />
          </p>
          <p class="muted">
            To {row.destination}, {dateClock(row.at)}. Its events are not stored (yet): they come within a moment, or their
            time is over.
          </p>
        </>
      ) : fault.value.status === 404 ? (
        <Failure message="This packet is not stored: its time is over, it was only counted, or the id is wrong." />
      ) : (
        <Failure message={fault.value.message} retry={() => void load()} />
      )}
    </aside>
  );
}

function Step(props: { to: string | null; icon: "previous" | "next"; label: string; letter: string }) {
  return (
    <button
      type="button"
      class="tool"
      aria-label={props.label}
      title={`${props.label} (${props.letter})`}
      disabled={props.to === null}
      onClick={() => {
        if (props.to !== null) setQuery({ packet: props.to });
      }}
    >
      <Icon name={props.icon} />
    </button>
  );
}

function Story(props: { packet: PacketDetail }) {
  const { packet } = props;
  const inAsset = store.assetOf(packet.peerId);
  const outAsset = store.assetOf(packet.nextHop);
  const status = store.status.value;
  const isLocal = packet.triggeredBy !== null && packet.triggeredBy === status?.ilpAddress;
  return (
    <>
      <p class="drawer-status" data-testid="packet-status">
        {packet.status === "fulfilled" && <Chip kind="ok">fulfilled</Chip>}
        {packet.status === "rejected" && <Chip kind="bad">{packet.code} rejected</Chip>}
        {packet.status === "pending" && <Chip kind="wait">in flight</Chip>}
        <span class="num">{duration(packet.durationMs)}</span>
        {packet.status === "rejected" && (
          <span class="muted">{isLocal ? "by this node" : `by ${packet.triggeredBy || "an unnamed node"}`}</span>
        )}
      </p>
      {packet.status === "rejected" && packet.message !== null && packet.message !== "" && (
        <p class="quote">“{packet.message}”</p>
      )}
      {place.value.query["condition"] === undefined && (
        <WayButton condition={packet.executionCondition} packetId={packet.packetId} receivedAt={packet.receivedAt} />
      )}
      <ol class="timeline" data-testid="timeline">
        {packet.timeline.map((step, index) => {
          const before = packet.timeline[index - 1];
          return (
            <li key={`${index} ${step.step}`} class={cls("step", `step-${step.step}`)} data-step={step.step}>
              <span class="step-name">{WORDS[step.step] ?? step.step}</span>
              <span class="step-time num" title={step.at}>
                +{duration(step.ms)}
                {before !== undefined && <span class="muted"> ({duration(step.ms - before.ms)})</span>}
              </span>
              <span class="step-note">
                {step.step === "received" && <>from {packet.peerId === null ? "–" : name(packet.peerId)}</>}
                {step.step === "reserved" && packet.amount !== null && inAsset !== null && (
                  <>{amount(units(packet.amount), inAsset.scale)} {inAsset.code} held before anything is promised</>
                )}
                {step.step === "forwarded" && <>to {packet.nextHop === null ? "–" : name(packet.nextHop)}</>}
                {step.step === "posted" && "the money has moved"}
                {step.step === "voided" && "what was held is free again"}
              </span>
            </li>
          );
        })}
      </ol>
      <dl class="facts">
        <dt>Received</dt>
        <dd>{packet.receivedAt === null ? "–" : dateClock(Date.parse(packet.receivedAt))}</dd>
        <dt>Destination</dt>
        <dd class="mono break">
          {packet.destination} {packet.destination !== null && packet.destination !== "" && <Copy text={packet.destination} what="the destination" />}
        </dd>
        <dt>From</dt>
        <dd>
          <PeerLink peerId={packet.peerId} />
        </dd>
        <dt>Next hop</dt>
        <dd>
          <PeerLink peerId={packet.nextHop} />
        </dd>
        <dt>Amount</dt>
        <dd>{packet.amount === null ? "–" : <Money value={units(packet.amount)} asset={inAsset} />}</dd>
        {packet.amountOut !== null && (
          <>
            <dt>Sent on</dt>
            <dd>
              <Money value={units(packet.amountOut)} asset={outAsset} />
            </dd>
          </>
        )}
        {packet.fee !== null && (
          <>
            <dt>Fee</dt>
            <dd>
              <Money value={units(packet.fee)} asset={inAsset} />
            </dd>
          </>
        )}
        {packet.amount !== null && inAsset !== null && (
          <>
            <dt>Exactly</dt>
            <dd class="num">
              {exact(units(packet.amount), inAsset.scale)} {inAsset.code}
            </dd>
          </>
        )}
        <dt>Expires</dt>
        <dd>{packet.expiresAt === null ? "–" : dateClock(Date.parse(packet.expiresAt))}</dd>
        <dt>Condition</dt>
        <dd class="mono break">
          {packet.executionCondition ?? "–"} {packet.executionCondition !== null && <Copy text={packet.executionCondition} what="the condition" />}
        </dd>
      </dl>
      <h3>Ledger transfers</h3>
      {packet.transfers.length === 0 ? (
        <p class="muted">None: {packet.status === "pending" ? "not known yet" : "no money was held for it"}.</p>
      ) : (
        <ul class="transfers" data-testid="transfers">
          {packet.transfers.map((transfer, index) => (
            <li key={`${index} ${transfer.id}`}>
              <Chip kind={transfer.step === "post" ? "ok" : transfer.step === "void" ? "bad" : "quiet"}>
                {TRANSFER_WORDS[transfer.step] ?? transfer.step}
              </Chip>
              <span>
                <code class="break">{transfer.id}</code> <Copy text={transfer.id} what="the transfer id" />
              </span>
            </li>
          ))}
        </ul>
      )}
      <p>
        <a class="link" href={withSearch(`api/packets/${packet.packetId}`, {})} target="_blank" rel="noopener">
          Raw JSON <Icon name="link" />
        </a>
      </p>
    </>
  );
}

function PeerLink(props: { peerId: string | null }) {
  const { peerId } = props;
  if (peerId === null) return <>–</>;
  if (peerId === "") return <>this node</>;
  return (
    <button
      type="button"
      class="link"
      onClick={() => {
        goTo("peers", { peer: peerId });
      }}
    >
      {peerId}
    </button>
  );
}
