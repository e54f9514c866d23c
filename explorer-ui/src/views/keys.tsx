/** What identifies this node and secures its links. Never a secret: fingerprints and ages only. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, logOut } from "../model/api";
import { span } from "../model/format";
import { type Load, LOADING, READY } from "../model/store";
import type { Keys as KeysAnswer, TlsState } from "../model/types";
import { Chip, Empty, Loaded, Panel } from "../parts/bits";
import { Icon } from "../parts/icons";
import { failed, goTo, store } from "../state";

const OLD_SECONDS = 365 * 86_400;

export function Keys() {
  const load = useSignal<Load>(LOADING);
  const keys = useSignal<KeysAnswer | null>(null);
  const ask = async () => {
    try {
      keys.value = await get<KeysAnswer>("api/keys");
      load.value = READY;
    } catch (error) {
      load.value = { state: "error", message: failed(error) };
    }
  };
  const version = store.peers.value.map((peer) => `${peer.peerId}${peer.connected}`).join();
  useEffect(() => {
    void ask();
  }, [version]);
  const known = keys.value;
  return (
    <Loaded load={known === null ? load.value : READY} what="keys" retry={() => void ask()}>
      {known !== null && <Shown keys={known} />}
    </Loaded>
  );
}

function Shown(props: { keys: KeysAnswer }) {
  const { keys } = props;
  const plain = keys.items.filter((peer) => !peer.tls).length;
  return (
    <div class="keys">
      <div class="tiles">
        <Tile label="ILP address" icon="link">
          <span class="mono break">{keys.ilpAddress === "" ? "not known yet" : keys.ilpAddress}</span>
          <small>node {keys.nodeId}</small>
        </Tile>
        <Tile label="Admin key" icon="keys">
          {keys.adminKeySet ? <Chip kind="ok">set</Chip> : <Chip kind="quiet">not set</Chip>}
          <small>
            {keys.adminKeySet || keys.readKeySet === true ? (
              <>
                {keys.adminKeySet ? (
                  <>
                    fingerprint <Print print={keys.adminKeyFingerprint ?? null} />{" "}
                  </>
                ) : (
                  "Nothing can be changed: the admin API is off. "
                )}
                <button
                  type="button"
                  class="link"
                  onClick={() => {
                    void logOut().finally(() => {
                      location.reload();
                    });
                  }}
                >
                  Log out
                </button>
              </>
            ) : (
              "The admin API is off: ADMIN_API_KEY turns it on."
            )}
          </small>
        </Tile>
        <Tile label="BTP listener" icon="lock">
          <Tls state={keys.btpTls} />
        </Tile>
        <Tile label="HTTP and this page" icon="lock">
          <Tls state={keys.httpTls} />
        </Tile>
        <Tile label="Receiver secret" icon="shield">
          {keys.receiverSecretSet ? <Chip kind="ok">set</Chip> : <Chip kind="quiet">not set</Chip>}
          <small>{keys.receiverSecretSet ? "Packets made for it are accepted here." : "Only pings and deliveries are accepted here."}</small>
        </Tile>
      </div>
      <Panel
        title="Secrets of the links"
        aside={keys.items.length > 0 && plain > 0 ? <Chip kind="warn">{plain} without TLS</Chip> : keys.items.length > 0 ? <Chip kind="ok">all with TLS</Chip> : undefined}
      >
        {keys.items.length === 0 ? (
          <Empty title="No peers configured">A peer is let in only with a secret: BTP_PEER_&lt;ID&gt;_SECRET.</Empty>
        ) : (
          <div class="scroll-x">
            <table class="grid" data-testid="keys">
              <thead>
                <tr>
                  <th scope="col">Peer</th>
                  <th scope="col">Secret</th>
                  <th scope="col">In use for</th>
                  <th scope="col">TLS</th>
                  <th scope="col" class="roomy">Who dials</th>
                  <th scope="col" class="roomy">Link</th>
                </tr>
              </thead>
              <tbody>
                {keys.items.map((peer) => (
                  <tr key={peer.peerId}>
                    <th scope="row">
                      <button
                        type="button"
                        class="link strong"
                        title={peer.peerId}
                        onClick={() => {
                          goTo("peers", { peer: peer.peerId });
                        }}
                      >
                        {peer.peerId}
                      </button>
                    </th>
                    <td>
                      <Print print={peer.secretFingerprint} />
                    </td>
                    <td title={peer.secretSince ?? ""}>
                      {peer.secretAgeSeconds === null ? "–" : span(peer.secretAgeSeconds)}{" "}
                      {peer.secretAgeSeconds !== null && peer.secretAgeSeconds > OLD_SECONDS && <Chip kind="warn">change it</Chip>}
                    </td>
                    <td>{peer.tls ? <Chip kind="ok">wss</Chip> : <Chip kind="warn">plain ws</Chip>}</td>
                    <td class="roomy">{peer.dials ? "we dial it" : "it dials us"}</td>
                    <td class="roomy">{peer.connected ? <Chip kind="ok">connected</Chip> : <Chip kind="bad">not connected</Chip>}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Panel>
      <Panel title="Changing a secret">
        <ol class="how">
          <li>Make a new one, for example with <code>openssl rand -base64 32</code>, and agree on a moment with the peer.</li>
          <li>
            Set <code>BTP_PEER_&lt;ID&gt;_SECRET</code> (or the file that <code>…_SECRET_FILE</code> names) on both sides and restart, or
            use <code>PUT /admin/peers/&lt;id&gt;</code> on a running node.
          </li>
          <li>The link comes back by itself; packets that were on their way are asked for again. The age above starts at zero.</li>
        </ol>
        <p class="muted pad">
          A fingerprint is salted by this node: it tells whether a secret has changed, and nothing about the secret.
        </p>
      </Panel>
    </div>
  );
}

function Tile(props: { label: string; icon: "link" | "keys" | "lock" | "shield"; children: preact.ComponentChildren }) {
  return (
    <section class="tile" aria-label={props.label}>
      <h2>
        <Icon name={props.icon} /> {props.label}
      </h2>
      {props.children}
    </section>
  );
}

function Tls(props: { state: TlsState | undefined }) {
  const { state } = props;
  if (state === undefined) return <Chip kind="quiet">unknown</Chip>;
  return (
    <>
      {state.enabled ? <Chip kind="ok">TLS</Chip> : <Chip kind="quiet">no TLS</Chip>}
      <small>
        {state.enabled ? (
          <>
            certificate <Print print={state.fingerprint} />
          </>
        ) : (
          "Fine on loopback or behind a proxy that ends TLS."
        )}
      </small>
    </>
  );
}

function Print(props: { print: string | null }) {
  if (props.print === null || props.print === "") return <span class="muted">–</span>;
  const short = props.print.length > 20 ? `${props.print.slice(0, 16)}…` : props.print;
  return (
    <code class="print" title={props.print}>
      {short}
    </code>
  );
}
