/** The wire: what the daemon says (docs/api.md). Amounts are decimal strings there. */

export interface Envelope {
  readonly type: string;
  readonly nodeId: string;
  readonly seq: number;
  readonly timestamp: string;
}

export interface AccountItem {
  readonly peerId: string;
  readonly assetCode: string;
  readonly assetScale: number;
  readonly debitBalance: string;
  readonly creditBalance: string;
  readonly netBalance: string;
  readonly pendingDebits: string;
  readonly pendingCredits: string;
  readonly creditLimit: string;
  readonly availableCredit: string;
  readonly settlementThreshold: string | null;
  readonly settlementState: string;
  /** Payments that wait for an operator, and their sum; events leave them out. */
  readonly settlementsWaiting?: number;
  readonly settlementsWaitingAmount?: string;
}

export interface AccountBalance extends Envelope, AccountItem {
  readonly type: "ACCOUNT_BALANCE";
}

export interface PacketReceived extends Envelope {
  readonly type: "PACKET_RECEIVED";
  readonly packetId: string;
  readonly peerId: string;
  readonly destination: string;
  readonly amount: string;
  readonly expiresAt: string;
  readonly executionCondition?: string;
}

export interface PacketForwarded extends Envelope {
  readonly type: "PACKET_FORWARDED";
  readonly packetId: string;
  readonly peerId: string;
  readonly nextHop: string;
  readonly destination: string;
  readonly amount: string;
  readonly fee: string;
}

interface Steps {
  readonly durationMs: number;
  readonly reservedMs?: number | null;
  readonly forwardedMs?: number | null;
  readonly answeredMs?: number | null;
  readonly postedMs?: number | null;
  readonly reserveIds?: string;
  readonly resolveIds?: string;
}

export interface PacketFulfilled extends Envelope, Steps {
  readonly type: "PACKET_FULFILLED";
  readonly packetId: string;
  readonly peerId: string;
  readonly nextHop: string;
  readonly destination: string;
  readonly amount: string;
}

export interface PacketRejected extends Envelope, Steps {
  readonly type: "PACKET_REJECTED";
  readonly packetId: string;
  readonly peerId: string;
  readonly nextHop: string | null;
  readonly destination: string;
  readonly amount: string;
  readonly code: string;
  readonly message: string;
  readonly triggeredBy: string;
}

export type PacketEvent = PacketReceived | PacketForwarded | PacketFulfilled | PacketRejected;

export interface LinkEvent extends Envelope {
  readonly type: "PEER_CONNECTED" | "PEER_DISCONNECTED";
  readonly peerId: string;
  readonly direction: string;
  readonly reason: string;
}

export interface RouteEvent extends Envelope {
  readonly type: "ROUTE_ADDED" | "ROUTE_REMOVED";
  readonly prefix: string;
  readonly nextHop: string;
  readonly source: string;
}

export interface SettlementEvent extends Envelope {
  readonly type:
    | "SETTLEMENT_TRIGGERED"
    | "SETTLEMENT_STARTED"
    | "SETTLEMENT_COMPLETED"
    | "SETTLEMENT_FAILED"
    | "SETTLEMENT_WAITING";
  readonly peerId: string;
  readonly assetCode: string;
  readonly assetScale: number;
  readonly amount: string;
  readonly netBalance: string;
  readonly threshold: string | null;
  readonly settlementId: string;
  readonly direction?: string;
  readonly error?: string;
}

/** A warning of the node's log. */
export interface AlertEvent extends Envelope {
  readonly type: "ALERT";
  readonly name: string;
  readonly level: "warning" | "error";
  readonly peerId: string;
  /** A JSON object; empty: there is nothing more to say. */
  readonly detail: string;
  /** How many like it had no event before. */
  readonly suppressed: number;
}

/** An item of `/api/v1/log`: an event, its group, and what it says in words. */
export interface LogEvent extends Envelope {
  readonly group: "operator" | "link" | "settlement" | "alert" | "books" | "node";
  readonly said: string;
  readonly peerId?: string;
}

export interface LogPage extends Page<LogEvent> {
  readonly lastSeq: string;
  readonly fault: string;
  readonly notKept: number;
}

export interface AccountingEvent extends Envelope {
  readonly type: "ACCOUNTING_STATE";
  readonly state: string;
  readonly backend: string;
  readonly spooled: number;
  readonly error: string;
}

export interface NodeStatusEvent extends Envelope {
  readonly type: "NODE_STATUS";
  readonly ilpAddress: string;
  readonly version: string;
  readonly uptimeSeconds: number;
  readonly peersConnected: number;
  readonly peersTotal: number;
  readonly routes: number;
  readonly accounting: string;
  readonly accountingReason?: string;
  readonly accountingSpooled?: number;
  readonly packetsInFlight?: number;
  readonly packetsReceived?: number;
  readonly packetsFulfilled?: number;
  readonly packetsRejected?: number;
  readonly packetsCounted?: number;
  readonly eventsDropped?: number;
  readonly latencyP50Ms?: number | null;
  readonly latencyP99Ms?: number | null;
  readonly rates?: string;
}

export interface LoopEvent extends Envelope {
  readonly type: "ROUTING_LOOP";
  readonly peerId: string;
  readonly nextHop: string;
  readonly prefix: string;
  readonly destination: string;
  readonly packets: number;
}

export interface ShortEvent extends Envelope {
  readonly type: "NEXT_HOP_SHORT";
  readonly peerId: string;
  readonly triggeredBy: string;
  readonly message: string;
  readonly packets: number;
}

export interface AdminEvent extends Envelope {
  readonly type: "ADMIN_ACTION";
  readonly action: string;
  readonly target: string;
  readonly keyFingerprint: string;
  readonly outcome: string;
}

export type WireEvent =
  | AccountBalance
  | PacketEvent
  | LinkEvent
  | RouteEvent
  | LoopEvent
  | ShortEvent
  | SettlementEvent
  | AccountingEvent
  | NodeStatusEvent
  | AdminEvent
  | AlertEvent;

export interface AccountingView {
  readonly state: string;
  readonly backend: string;
  readonly spooled?: number;
  /** Why it is not available; of the page's own making. */
  readonly reason?: string;
}

/** Packets that come back: sent to `nextHop`, they arrive again from `peerId`, and are refused. */
export interface RoutingLoop {
  readonly peerId: string;
  readonly nextHop: string;
  readonly prefix: string;
  readonly packets: number;
  readonly lastAt: string;
}

/** A next hop that answers T04: for want of credit of ours. */
export interface NextHopShort {
  readonly peerId: string;
  readonly triggeredBy: string;
  readonly message: string;
  readonly packets: number;
  readonly lastAt: string;
}

/** `/api/status` */
export interface Status {
  readonly status: string;
  readonly reason: string;
  readonly nodeId: string;
  readonly peersConnected: number;
  readonly peersTotal: number;
  readonly accounting: AccountingView;
  readonly version: string;
  readonly uptimeSeconds: number;
  readonly ilpAddress: string;
  readonly assetCode?: string;
  readonly assetScale?: number;
  readonly routes: number;
  readonly packetsInFlight: number;
  readonly packetsFulfilled: number;
  readonly packetsRejected: number;
  readonly packetsCounted?: number;
  readonly routingLoops?: readonly RoutingLoop[];
  readonly nextHopsShort?: readonly NextHopShort[];
  /** Live exchange rates; absent from older nodes. */
  readonly rates?: { readonly state: string; readonly error?: string };
}

/** A point of `/api/aggregates` */
export interface Aggregate {
  readonly timestamp: string;
  readonly seconds: number;
  readonly fulfilled: number | null;
  readonly rejected: number | null;
  readonly value: readonly { readonly assetCode: string; readonly assetScale: number; readonly amount: string }[];
  /** Absent from older nodes, as what follows. */
  readonly codes?: readonly CodeCount[];
  readonly latencyP50Ms?: number | null;
  readonly latencyP99Ms?: number | null;
}

export interface CodeCount {
  readonly code: string;
  readonly count: number;
}

/** A point of `/api/peers/{id}/aggregates`; null: not known. */
export interface PeerAggregate {
  readonly timestamp: string;
  readonly seconds: number;
  readonly fulfilledIn: number | null;
  readonly rejectedIn: number | null;
  readonly fulfilledOut: number | null;
  readonly rejectedOut: number | null;
  readonly amountIn: string | null;
  readonly amountOut: string | null;
  readonly codes: readonly CodeCount[];
}

export interface PeerAggregates {
  readonly peerId: string;
  readonly resolutionMs: number;
  readonly from: string;
  readonly to: string;
  readonly items: readonly PeerAggregate[];
}

/** `/api/activity`: packets of each peer by the minute; null: not known. */
export interface Activity {
  readonly resolutionMs: number;
  readonly from: string;
  readonly to: string;
  readonly items: readonly { readonly peerId: string; readonly packets: readonly (number | null)[] }[];
}

export interface Aggregates {
  readonly resolutionMs: number;
  readonly from: string;
  readonly to: string;
  readonly since: string | null;
  readonly items: readonly Aggregate[];
}

/** An item of `/api/settlements` */
export interface SettlementItem {
  readonly settlementId: string;
  readonly peerId: string;
  readonly assetCode: string;
  readonly assetScale: number;
  readonly direction: string;
  readonly amount: string;
  readonly phase: string;
  readonly payer: string;
  readonly attempts: number;
  readonly error: string;
  readonly nextAttemptMs: number | null;
  readonly createdMs: number;
  readonly changedMs: number;
}

/** An item of `/api/peers` */
export interface PeerItem {
  readonly peerId: string;
  readonly relation: string;
  readonly assetCode: string;
  readonly assetScale: number;
  readonly connected: boolean;
  readonly direction: string | null;
  readonly latencyMs: number | null;
  readonly connects: number;
  readonly lastError: string;
  readonly inFlight: number;
  /** Absent from older nodes: packets to it without an answer; whether it takes part; whether it may be away; whether it is dialled. */
  readonly inFlightOut?: number;
  readonly enabled?: boolean;
  readonly offlineExpected?: boolean;
  readonly dials?: boolean;
  readonly draining?: boolean;
  readonly throughputInLeft?: string | null;
  readonly throughputOutLeft?: string | null;
  readonly packetsIn: number;
  readonly packetsOut: number;
  readonly fulfilledIn: number;
  readonly fulfilledOut: number;
  readonly rejectedIn: number;
  readonly rejectedOut: number;
  readonly resentIn: number;
  readonly resentOut: number;
}

export interface RouteItem {
  readonly prefix: string;
  readonly nextHop: string;
  readonly source: string;
  /** Of a route from CCP: the addresses on the way. */
  readonly path?: readonly string[];
  readonly ageSeconds?: number | null;
  readonly announcedTo?: readonly string[];
  /** Of a route from CCP: the route of the settings, as `prefix=next hop`, that it goes before. */
  readonly goesBefore?: string | null;
}

/** `/api/explain` */
export interface Foretold {
  readonly destination: string;
  readonly route: RouteItem | null;
  readonly shorter: readonly RouteItem[];
  readonly beaten: readonly RouteItem[];
  readonly nextHop: { readonly peerId: string; readonly connected: boolean } | null;
  readonly outcome: string;
  readonly code: string | null;
  readonly message: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly next: string | number | null;
}

/** The first message of the live feed. */
export interface Snapshot {
  readonly type: "snapshot";
  readonly seq: number;
  readonly gap?: boolean;
  readonly status: Status;
  readonly peers: readonly PeerItem[];
  readonly accounts: readonly AccountItem[];
  readonly packets: readonly PacketEvent[];
}

/** `/api/packets/{id}` */
export interface PacketDetail {
  readonly packetId: string;
  readonly status: "pending" | "fulfilled" | "rejected";
  readonly peerId: string | null;
  readonly nextHop: string | null;
  readonly destination: string | null;
  readonly amount: string | null;
  readonly amountOut: string | null;
  readonly fee: string | null;
  readonly executionCondition: string | null;
  readonly expiresAt: string | null;
  readonly receivedAt: string | null;
  readonly durationMs: number | null;
  readonly code: string | null;
  readonly message: string | null;
  readonly triggeredBy: string | null;
  readonly timeline: readonly TimelineStep[];
  readonly transfers: readonly { readonly id: string; readonly step: string }[];
  readonly events: readonly PacketEvent[];
}

export interface TimelineStep {
  readonly step: string;
  readonly ms: number;
  readonly at: string;
}

/** An item of `/api/accounts/{peer}/history` */
export interface HistoryItem {
  readonly timestamp: string;
  readonly netBalance: string;
  readonly debitBalance: string;
  readonly creditBalance: string;
  readonly pendingDebits: string;
  readonly pendingCredits: string;
}

export interface History {
  readonly peerId: string;
  readonly assetCode: string;
  readonly assetScale: number;
  readonly resolutionMs: number;
  readonly items: readonly HistoryItem[];
}

export interface TlsState {
  readonly enabled: boolean;
  readonly fingerprint: string | null;
}

/** `/api/keys` */
export interface Keys {
  readonly nodeId: string;
  readonly ilpAddress: string;
  readonly adminKeySet: boolean;
  readonly adminKeyFingerprint?: string | null;
  readonly readKeySet?: boolean;
  readonly receiverSecretSet?: boolean;
  readonly btpTls?: TlsState;
  readonly httpTls?: TlsState;
  readonly items: readonly {
    readonly peerId: string;
    readonly secretFingerprint: string | null;
    readonly secretSince: string | null;
    readonly secretAgeSeconds: number | null;
    readonly dials: boolean;
    readonly tls: boolean;
    readonly connected: boolean;
  }[];
}

/** A link as one node has it. What is null is not known. */
export interface NetworkLink extends AccountItem {
  readonly connected?: boolean | null;
  readonly enabled?: boolean | null;
  readonly offlineExpected?: boolean | null;
  readonly packetsIn?: number | null;
  readonly packetsOut?: number | null;
}

/** `/api/network`: this node and those that `EXPLORER_NODES` names. */
export interface NetworkNode {
  /** Empty: this node itself. */
  readonly url: string;
  /** Why it could not be asked; empty: it was. What is shown then is what it said last. */
  readonly error: string;
  /** When it said what is shown. */
  readonly at: string | null;
  readonly nodeId: string | null;
  readonly ilpAddress: string | null;
  readonly status: string | null;
  readonly accountingState: string | null;
  readonly accounts: readonly NetworkLink[];
}

export interface Network {
  readonly configured: boolean;
  readonly nodes: readonly NetworkNode[];
}

export interface HopAsset {
  readonly code: string;
  readonly scale: number;
}

/** One packet as one node has it, by that node's clock; an item of `/api/v1/packet-ids`. What is null is not known there. */
export interface Hop {
  readonly packetId: string;
  readonly status: "pending" | "fulfilled" | "rejected";
  /** Empty: the node itself, as `nextHop`. */
  readonly peerId: string;
  readonly nextHop: string | null;
  readonly destination: string;
  readonly amount: string;
  readonly amountOut: string | null;
  readonly fee: string | null;
  readonly assetIn: HopAsset | null;
  readonly assetOut: HopAsset | null;
  readonly receivedAt: string | null;
  readonly durationMs: number | null;
  readonly reservedMs: number | null;
  readonly forwardedMs: number | null;
  readonly answeredMs: number | null;
  readonly postedMs: number | null;
  readonly code: string | null;
  readonly message: string | null;
  readonly triggeredBy: string | null;
  /** The next hops that it was sent to, the last one last. */
  readonly ways: readonly string[];
}

export interface HopsOfNode {
  /** Empty: this node itself. */
  readonly url: string;
  /** Why it could not be asked; empty: it was. */
  readonly error: string;
  readonly nodeId: string | null;
  readonly ilpAddress: string | null;
  /** How far its clock is ahead of this node's, and by how much that may be wrong. */
  readonly clockOffsetMs: number | null;
  readonly clockErrorMs: number | null;
  readonly items: readonly Hop[];
  readonly more: boolean;
}

/** `/api/v1/network/conditions/{condition}`: this node first. */
export interface HopsEverywhere {
  readonly condition: string;
  readonly configured: boolean;
  readonly nodes: readonly HopsOfNode[];
}

/** An item of `/api/wallets` */
export interface WalletItem {
  readonly wallet: string;
  readonly assetCode: string;
  readonly assetScale: number;
  readonly received: string;
  readonly sent: string;
  readonly balance: string;
  readonly pending: string;
  readonly payUrl: string | null;
}

/** An item of `/api/wallets/payments`: what came in. */
export interface IncomingPayment {
  readonly id: string;
  readonly paymentId: string;
  readonly wallet: string;
  readonly assetCode: string;
  readonly assetScale: number;
  readonly amount: string;
  /** Whether it may be more. */
  readonly atLeast: boolean;
  readonly packets: number;
  readonly beganAt: string;
  readonly lastAt: string;
  /** Null: it is open. */
  readonly ended: string | null;
  readonly webhook: "none" | "waiting" | "told" | "dead";
  readonly webhookAttempts: number;
  readonly webhookFault: string | null;
}

export interface IncomingPage extends Page<IncomingPayment> {
  readonly webhooksWaiting: number;
  readonly webhooksDead: number;
}

/** An item of `/api/payments`: what this node has paid. */
export interface OutgoingPayment {
  readonly key: string;
  readonly target: string;
  readonly state: "running" | "completed" | "failed" | "interrupted";
  readonly amount: string;
  readonly sent: string;
  readonly delivered: string;
  readonly packets: number;
  /** `USD/9` */
  readonly asset: string;
  readonly receiverAsset: string | null;
  readonly reason: string;
}

/** `/api/peers/{id}`: what was agreed and is in effect. Null limits: there is none. */
export interface PeerTerms {
  readonly id: string;
  readonly relation: string;
  readonly assetCode: string;
  readonly assetScale: number;
  readonly url: string | null;
  readonly httpUrl: string | null;
  readonly creditLimit: string;
  readonly maxPayable: string | null;
  readonly maxInFlightValue: string | null;
  readonly maxPacketAmount: string | null;
  readonly rateLimit: number | null;
  readonly throughputIn: string | null;
  readonly throughputOut: string | null;
  readonly throughputWindowSeconds: number;
  readonly settleThreshold: string | null;
  readonly settleTo: string;
  readonly maxPrepaid: string;
  readonly settlementEngineUrl: string | null;
  readonly feeBasisPoints: number;
  readonly routes: readonly string[];
  readonly sendRoutes: boolean | null;
  readonly receiveRoutes: boolean | null;
  readonly transit: boolean | null;
  readonly source: string;
  readonly changed: readonly string[];
}

/** An item of `/api/rates` */
export interface RateItem {
  readonly from: string;
  readonly to: string;
  readonly rate: string;
  readonly source: string;
}
