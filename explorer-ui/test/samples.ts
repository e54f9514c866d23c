/** Events as the daemon sends them. */

import type {
  AccountBalance,
  NodeStatusEvent,
  PacketForwarded,
  PacketFulfilled,
  PacketReceived,
  PacketRejected,
  Snapshot,
} from "../src/model/types";

export const T0 = Date.parse("2026-01-01T12:00:00.000Z");

export function at(ms: number): string {
  return new Date(T0 + ms).toISOString();
}

export function head<T extends string>(type: T, seq: number, ms = 0) {
  return { type, nodeId: "hub", seq, timestamp: at(ms) };
}

export function balance(seq: number, change: Partial<AccountBalance> = {}, ms = 0): AccountBalance {
  return {
    ...head("ACCOUNT_BALANCE", seq, ms),
    peerId: "alice",
    assetCode: "USD",
    assetScale: 9,
    debitBalance: "0",
    creditBalance: "0",
    netBalance: "0",
    pendingDebits: "0",
    pendingCredits: "0",
    creditLimit: "1000",
    availableCredit: "1000",
    settlementThreshold: null,
    settlementState: "IDLE",
    ...change,
  };
}

const PACKET = { peerId: "alice", destination: "g.bob.x", amount: "100" };

export function received(seq: number, packetId: string, ms = 0): PacketReceived {
  return { ...head("PACKET_RECEIVED", seq, ms), ...PACKET, packetId, expiresAt: at(30_000) };
}

export function forwarded(seq: number, packetId: string, ms = 1): PacketForwarded {
  return { ...head("PACKET_FORWARDED", seq, ms), ...PACKET, packetId, nextHop: "bob", amount: "99", fee: "1" };
}

export function fulfilled(seq: number, packetId: string, ms = 5): PacketFulfilled {
  return { ...head("PACKET_FULFILLED", seq, ms), ...PACKET, packetId, nextHop: "bob", durationMs: 5 };
}

export function rejected(seq: number, packetId: string, ms = 5): PacketRejected {
  return {
    ...head("PACKET_REJECTED", seq, ms),
    ...PACKET,
    packetId,
    nextHop: null,
    code: "F02",
    message: "no route",
    triggeredBy: "g.hub",
    durationMs: 5,
  };
}

export function status(seq: number, ms: number, change: Partial<NodeStatusEvent> = {}): NodeStatusEvent {
  return {
    ...head("NODE_STATUS", seq, ms),
    ilpAddress: "g.hub",
    version: "1",
    uptimeSeconds: 10 + Math.floor(ms / 1000),
    peersConnected: 1,
    peersTotal: 2,
    routes: 3,
    accounting: "available",
    ...change,
  };
}

export function snapshot(seq: number, change: Partial<Snapshot> = {}): Snapshot {
  return {
    type: "snapshot",
    seq,
    gap: false,
    status: {
      status: "healthy", reason: "", nodeId: "hub", peersConnected: 1, peersTotal: 2,
      accounting: { state: "available", backend: "embedded" }, version: "1", uptimeSeconds: 10,
      ilpAddress: "g.hub", routes: 3, packetsInFlight: 0, packetsFulfilled: 0, packetsRejected: 0,
    },
    peers: [],
    accounts: [balance(0)],
    packets: [],
    ...change,
  }; // prettier-ignore
}
