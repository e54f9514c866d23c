/** Actions with a form: peers, limits, secrets, routes, packets, payments. What a form leaves empty is the default. */

import type { Account } from "./accounts";
import { type Asset, balance, exact } from "./format";
import { type Action, actions, type Field, peerPath, type Values } from "./operate";
import type { PeerItem, PeerTerms } from "./types";

/** For a field: no groups of digits. */
function typed(value: string | null, asset: Asset): string {
  return value === null ? "" : exact(BigInt(value), asset.scale).replaceAll(",", "");
}

function amountField(name: string, label: string, asset: Asset, value: string | null, hint = ""): Field {
  return { name, label: `${label}, in ${asset.code}`, kind: "amount", asset, value: typed(value, asset), ...(hint === "" ? {} : { hint }) };
}

const RELATIONS = [
  ["peer", "peer: an equal"],
  ["child", "child: it gets its address from us"],
  ["parent", "parent: we get our address from it"],
] as const;

/** What a new peer has when nothing else is said. */
export function addPeer(asset: Asset): Action {
  const own = (values: Values): Asset => ({
    code: values["assetCode"]?.trim() || asset.code,
    scale: /^\d+$/.test(values["assetScale"] ?? "") ? Number(values["assetScale"]) : asset.scale,
  });
  return {
    key: "add peer",
    label: "Add a peer",
    title: "Add a peer",
    method: "POST",
    path: "admin/peers",
    fields: [
      { name: "id", label: "Its name here", kind: "text", value: "", need: true, hint: "lower case letters, digits and hyphens" },
      { name: "secret", label: "Secret that it shares with us", kind: "secret", value: "", need: true, hint: "tell it to the peer, over a way that nobody else reads" },
      { name: "url", label: "Where to dial it", kind: "text", value: "", hint: "btp+wss://… or ws://…; empty: it dials us" },
      { name: "relation", label: "Relation", kind: "choice", value: "peer", options: RELATIONS },
      { name: "assetCode", label: "Asset", kind: "text", value: asset.code },
      { name: "assetScale", label: "Digits after the point", kind: "count", value: String(asset.scale) },
      { name: "creditLimit", label: "It may owe us", kind: "amount", asset: own, value: "", hint: "empty: the CREDIT_LIMIT of this node" },
      { name: "routes", label: "Prefixes that it reaches", kind: "list", value: "", hint: "g.bob, g.shops; empty: none but what it announces" },
    ],
    effects: null,
    done: "It was added: give it its name here, and the secret.",
  };
}

/** Its link, routes and fee. */
export function editPeer(terms: PeerTerms): Action {
  return {
    key: `edit ${terms.id}`,
    label: "Edit",
    title: `Edit ${terms.id}`,
    method: "PATCH",
    path: peerPath(terms.id),
    changesOnly: true,
    fields: [
      { name: "url", label: "Where to dial it", kind: "text", value: terms.url ?? "", hint: "only scheme, host and port are shown; leave it as it is to keep the rest" },
      { name: "feeBasisPoints", label: "Fee of what it sends, in hundredths of a percent", kind: "count", value: String(terms.feeBasisPoints) },
      { name: "routes", label: "Prefixes that it reaches", kind: "list", value: terms.routes.join(", ") },
    ],
    effects: null,
    done: "It was changed.",
  };
}

export function limitsOf(terms: PeerTerms): Action {
  const asset = { code: terms.assetCode, scale: terms.assetScale };
  return {
    key: `limits ${terms.id}`,
    label: "Limits",
    title: `Limits of ${terms.id}`,
    method: "PUT",
    path: `${peerPath(terms.id)}/limits`,
    changesOnly: true,
    fields: [
      amountField("creditLimit", "It may owe us", asset, terms.creditLimit),
      amountField("maxPayable", "We may owe it", asset, terms.maxPayable, "empty: no bound"),
      amountField("maxInFlightValue", "In flight each way", asset, terms.maxInFlightValue, "empty: no bound"),
      amountField("maxPacketAmount", "A packet from it", asset, terms.maxPacketAmount, "empty: no bound"),
      { name: "rateLimit", label: "Packets per second from it", kind: "count", value: terms.rateLimit === null ? "" : String(terms.rateLimit), hint: "empty: no bound" },
      amountField("settleThreshold", "We settle when we owe it more than", asset, terms.settleThreshold, "empty: never by itself"),
      amountField("settleTo", "… down to", asset, terms.settleTo),
    ],
    effects: null,
    done: "The limits were changed.",
  };
}

export function rotateSecret(peerId: string): Action {
  return {
    key: `rotate ${peerId}`,
    label: "Rotate secret",
    title: `A new secret for ${peerId}`,
    method: "POST",
    path: `${peerPath(peerId)}/rotate-secret`,
    fields: [
      { name: "secret", label: "The new secret", kind: "secret", value: "", need: true, hint: "tell it to the peer, over a way that nobody else reads" },
      {
        name: "graceSeconds", label: "The present one serves beside it for", kind: "choice", value: "86400",
        options: [["3600", "an hour"], ["86400", "a day"], ["604800", "a week"], ["0", "no time: the link is closed now"]],
      }, // prettier-ignore
    ],
    effects: null,
    danger: true,
    done: "It has the new secret.",
  };
}

export function recordSettlement(peerId: string, asset: Asset): Action {
  return {
    key: `record ${peerId}`,
    label: "Record a payment",
    title: `Record a payment with ${peerId}`,
    method: "POST",
    path: `admin/accounts/${encodeURIComponent(peerId)}/settlements`,
    fields: [
      { name: "direction", label: "Who has paid", kind: "choice", value: "outgoing", options: [["outgoing", `we have paid ${peerId}`], ["incoming", `${peerId} has paid us`]] },
      { name: "amount", label: `Amount, in ${asset.code}`, kind: "amount", asset, value: "", need: true },
    ],
    effects: (values) => [
      values["direction"] === "incoming"
        ? `${values["amount"]} ${asset.code} of ${peerId} is booked as received: it owes us that much less`
        : `${values["amount"]} ${asset.code} to ${peerId} is booked as paid: we owe it that much less`,
      "nobody is asked to pay: it was paid outside of this connector",
    ],
    done: "It is booked.",
  };
}

export function addRoute(peers: readonly string[]): Action {
  return {
    key: "add route",
    label: "Add a route",
    title: "Add a route",
    method: "POST",
    path: "admin/routes",
    // An empty prefix is the default route.
    body: { prefix: "" },
    fields: [
      { name: "prefix", label: "Addresses that begin with", kind: "text", value: "", hint: "g.bob; empty: everything that no other route takes" },
      { name: "nextHop", label: "go to", kind: "choice", value: peers[0] ?? "", need: true, options: peers.map((peer) => [peer, peer] as const) },
    ],
    effects: null,
    done: "The route was added.",
  };
}

export function removeRoute(prefix: string, nextHop: string): Action {
  const query = new URLSearchParams({ prefix, nextHop }).toString();
  return {
    key: `route ${prefix} ${nextHop}`,
    label: "Remove",
    title: `Remove the route ${prefix === "" ? "for everything else" : prefix} to ${nextHop}`,
    method: "DELETE",
    path: `admin/routes?${query}`,
    effects: null,
    danger: true,
    done: "The route was removed.",
  };
}

interface PacketAnswer {
  readonly status?: string;
  readonly code?: string;
  readonly message?: string;
  readonly triggeredBy?: string;
  readonly durationMs?: number;
}

export function sendPacket(asset: Asset): Action {
  return {
    key: "send packet",
    label: "Send a test packet",
    title: "Send a test packet",
    method: "POST",
    path: "admin/packets",
    fields: [
      { name: "destination", label: "To", kind: "text", value: "", need: true, hint: "an ILP address, such as g.bob" },
      { name: "amount", label: `Amount, in ${asset.code}`, kind: "amount", asset, value: "0", need: true },
    ],
    effects: (values) => [
      `a ping over ${values["amount"]} ${asset.code} is sent to ${values["destination"]}; connectors of this kind fulfil it`,
      /[1-9]/.test(values["amount"] ?? "") ? "the amount is paid to the receiver when it is fulfilled" : "nothing is paid",
    ],
    done: (answer) => {
      const { status, code, message, triggeredBy, durationMs } = answer as PacketAnswer;
      const took = durationMs === undefined ? "" : ` after ${durationMs < 10 ? durationMs.toFixed(1) : Math.round(durationMs)} ms`;
      return status === "fulfilled" ? `Fulfilled${took}.` : `Rejected${took}: ${code ?? ""} ${message ?? ""}${triggeredBy ? `, by ${triggeredBy}` : ""}.`;
    },
  };
}

export function pay(asset: Asset): Action {
  return {
    key: "pay",
    label: "Pay",
    title: "Pay a payment pointer",
    method: "POST",
    path: "admin/payments",
    fields: [
      { name: "target", label: "To", kind: "text", value: "", need: true, hint: "$host/path, or its https:// URL" },
      { name: "amount", label: `Amount to send, in ${asset.code}`, kind: "amount", asset, value: "", need: true },
    ],
    effects: (values) => [`up to ${values["amount"]} ${asset.code} is sent to ${values["target"]}, in as many packets as it takes`],
    done: (answer) => {
      const { state, reason } = answer as { readonly state?: string; readonly reason?: string };
      return state === "failed" ? `It has failed: ${reason ?? ""}` : "It is under way: it stands among the payments of this node.";
    },
  };
}

/** Everything that can be done with a peer; without its terms, what needs none. */
export function peerActions(peer: PeerItem, account: Account | undefined, terms: PeerTerms | null): Action[] {
  const id = peer.peerId;
  const asset = { code: peer.assetCode, scale: peer.assetScale };
  return [
    ...(account !== undefined && account.net < 0n ? [actions.settleNow(id, `${balance(-account.net, account.scale)} ${account.code}`)] : []),
    ...(account !== undefined ? [recordSettlement(id, asset)] : []),
    ...(terms !== null ? [limitsOf(terms), editPeer(terms)] : []),
    rotateSecret(id),
    ...(peer.dials !== false || peer.connected ? [actions.reconnect(id)] : []),
    ...(peer.offlineExpected !== undefined ? [actions.expectOffline(id, !peer.offlineExpected)] : []),
    ...(peer.enabled !== undefined ? [actions.enable(id, !peer.enabled)] : []),
    actions.remove(id),
  ];
}
