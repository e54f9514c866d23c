"""Writes the references of metrics and of log events; a test fails while they are out of date.

    python scripts/telemetry_reference.py

Names, fields and levels are read from the sources of `connector/`, and so are the texts of most metrics. What a
log event means stands here (`LOG_EVENTS`): a new one needs a line, and one that is gone has none.
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = ROOT / "connector"
FOLDER: Final = ROOT / "docs" / "reference"

COUNTERS: Final = {
    "btp_authentication_failures": "Log-ins over BTP with a wrong name or secret.",
    "btp_messages_ignored": "BTP messages that have no meaning here, such as answers that nobody waits for.",
    "ilp_answers_late": "Answers of next hops that came after their packet had expired.",
    "ilp_answers_malformed": "Answers of next hops that were no ILP packets.",
    "ilp_answers_undelivered": "Answers that could not be given back: the link of the sender was down.",
    "ilp_http_authentication_failures": "Requests to the ILP-over-HTTP listener with a wrong token.",
    "ilp_http_requests_refused": "Requests to the ILP-over-HTTP listener that were refused for another reason.",
    "ilp_http_unknown_outcomes": "Packets posted over HTTP of which it stayed unknown what became of them.",
    "ilp_packets_looped": "Prepares refused because they had come back.",
    "ilp_packets_second_way": "Prepares that were sent another way after their next hop had refused them.",
    "ilp_packets_second_way_fulfilled": "Those of them that were fulfilled.",
    "ilp_resent_refused": "Prepares sent again that differ from the first, and were refused.",
    "telemetry_dropped": "Events that were dropped: by the bus, for slow viewers, or by the store.",
    "telemetry_packets_counted": "Packets that were only counted, without events of their own.",
    "telemetry_viewers_dropped": "Viewers of the live feed that were closed because they did not read.",
}
"""Counters that the node hands over as plain integers."""

LOG_EVENTS: Final = {
    "accounting_correction": "A post came after its hold had expired, and was booked as a correction: nothing is lost.",
    "accounting_initialized": "The accounts are open.",
    "accounting_refused": "**Somebody must look.** The ledger refused transfers without a known reason; `amountLost` is not booked until then.",
    "accounting_state_changed": "The ledger is there, away, or holds packets back; info when it is available, else a warning.",
    "accounts_are_shared": "Another process books for this node too. Run one process of a node, others with `--standby`.",
    "admin_action": "An operator changed something, or was refused.",
    "answers_not_kept": "Answers for a peer that was removed could not be kept: packets that it sends again are new ones.",
    "audit_failed": "A check of the books could not be made.",
    "books_checked": "The books of the running node were checked; a warning where a rule does not hold.",
    "btp_authentication_failed": "Somebody logged in over BTP with a wrong name or secret.",
    "btp_connection_lost": "A link of a peer ended, and why.",
    "btp_connection_established": "A link of a peer is up.",
    "btp_connection_refused": "A connection was refused before its log-in.",
    "btp_dial_failed": "A peer could not be reached; it is tried again, less and less often.",
    "clock_jumped": "The machine's clock was set. Packets in flight keep their time.",
    "commits_waited_for": "The event loop begins or ceases to wait for short commits to this file.",
    "config_loaded": "The settings in short.",
    "connector_started": "The node takes packets.",
    "connector_stopped": "The node has stopped in order.",
    "core_interpreted": "The core is not compiled, so it runs at half the speed; why.",
    "credit_granted_for_hold": "Credit was granted so that what was promised could be booked; it is taken back as the peer pays.",
    "credit_limit_in_use": "A limit was lowered below what the peer uses; it is lowered as the peer pays.",
    "disk_has_room": "The disk of DATA_DIR has room again.",
    "disk_nearly_full": "**Somebody must look.** The disk of DATA_DIR has little room; at `full` new packets get T00.",
    "disk_not_measured": "The room on the disk of DATA_DIR cannot be measured.",
    "event_store_failed": "Events cannot be written; it is tried again. Packets go on.",
    "event_store_replaced": "The file of events was damaged. It was renamed to `.damaged`, and a new one begun.",
    "former_secret_over": "The grace of a former secret has ended.",
    "fulfilment_not_booked": "**Somebody must look.** A packet was fulfilled before a crash, and its hold or account is not in the ledger.",
    "fulfilments_not_kept": "**Somebody must look.** Fulfills could not be written to disk before their senders' last moment, and were relayed.",
    "http_authentication_failed": "Somebody showed a wrong key to the API or the page, or a wrong token to the HTTP listener.",
    "http_failed": "**A fault of this program** while it answered a request; the request got 500.",
    "ildcp_asset_differs": "The parent counts in another asset than this node does with it: amounts are misread until one is changed.",
    "ildcp_asset_taken": "The asset of the parent was taken over.",
    "ildcp_failed": "The parent has not assigned an address.",
    "ildcp_renamed_too_often": "The parent assigns new addresses too often; the one in use is kept.",
    "ilp_address_received": "The parent has assigned this address.",
    "ilp_http_answer_undelivered": "An answer could not be posted to the callback of a peer in time, or there was no room.",
    "ilp_http_no_answer": "A request to a peer had no answer.",
    "ilp_http_not_reached": "Nothing can be posted to the peer, and why.",
    "ilp_http_packet_refused": "A peer answered a packet with 4xx or 5xx: compare URL and content type.",
    "ilp_http_reached": "Packets can be posted to the peer; `packetIds`: it is a node of this kind.",
    "ilp_http_request_refused": "A request of a peer was refused, and why.",
    "known_peers_not_written": "What is known of peers could not be written to DATA_DIR.",
    "known_peers_unreadable": "What was known of peers cannot be read; it is learned anew.",
    "learned_route_goes_before": "A learned route with a longer prefix goes before one of yours: `RECEIVE_PREFIXES` bounds what a neighbour may announce.",
    "learned_routes_not_bounded": "Peers may announce any prefix; which of them, and what to set.",
    "learned_routes_not_kept": "Learned routes could not be kept for the next start.",
    "lease_superseded": "Another process of this node has taken over. This one stops with exit code 3.",
    "ledger_behind": "**Somebody must look.** The ledger has less than it acknowledged: an older copy, or another ledger. Nothing is written to it.",
    "ledger_differs": "Balances in the ledger differ from what was assumed while it was away; the ledger's are taken.",
    "ledger_in_memory": "LEDGER=memory: balances are lost when the node stops.",
    "ledger_loss_accepted": "The node was started with `--accept-ledger-loss`: what the ledger lacks is lost.",
    "ledger_refused": "**Somebody must look.** The ledger refuses this client: another version or cluster id.",
    "ledger_upkeep": "The ledger could not prune, or has something to say about its size.",
    "library_message": "A warning of a library.",
    "local_delivery_failed": "LOCAL_DELIVERY_URL did not take a packet.",
    "log_lines_lost": "So many lines were lost while standard error was not read.",
    "next_hop_short": "A next hop answers T04: it will owe or be owed no more. See `limits` and `settle`.",
    "no_peers": "No peer is configured.",
    "outbox_failed": "**Somebody must look.** The outbox in DATA_DIR cannot be written. Mend the disk before the node is restarted.",
    "outbox_is_new": "The ledger knows this node, DATA_DIR does not: what an outbox held that is gone was not booked.",
    "outbox_transfer_unknown": "**Somebody must look.** The outbox is meant for another ledger: what was restored?",
    "outbox_was_removed": "Somebody removed the outbox while the node ran. It was written anew; nothing is lost.",
    "packet_rejected": "A packet was rejected; at a limited rate.",
    "packets_outcome_unknown": "Packets were under way in a crash, and nobody can say whether their next hop has fulfilled them: by next hop, with the sum.",
    "pay_listener_started": "Payments by name are taken there.",
    "payment_data_failed": "PAY_DATA_URL did not answer whether data of a payment is accepted.",
    "payment_ended": "A payment of this node has ended.",
    "payment_failed": "**A fault of this program** in a payment; what was sent is on disk.",
    "payment_not_recorded": "What became of a payment could not be written.",
    "payments_lost": "Records of payments that came in were lost, not the money: too many waited for the disk.",
    "payments_not_recorded": "Records of payments that came in cannot be written; it is tried again.",
    "payments_not_settled": "What a crash left of payments is not settled yet; it is tried again.",
    "peer_removed_with_packets_unanswered": "A peer was removed by force while packets were under way.",
    "posts_not_durable": "**Somebody must look.** Fulfills left before their posts were on disk: each is lost if the node is killed now.",
    "process_goes_on": "The process goes on after it stood still.",
    "process_stood_still": "The process did not run for a while; nothing is sent until the ledger says that none has taken over.",
    "rates_failed": "The source of live rates did not answer as it should.",
    "rates_in_use": "Live rates are in use.",
    "rates_refused": "Single live rates were refused.",
    "rates_too_old": "Live rates are too old: packets that need one get T00.",
    "replaced_file": "A file of DATA_DIR was damaged; it was renamed and begun anew.",
    "routes_refused": "Routes that a neighbour announced were refused.",
    "routing_loop": "Packets come back. See the route that is named.",
    "setting_without_effect": "A setting has no effect, and why.",
    "settlement_accepted": "An operator accepted a payment.",
    "settlement_account_not_removed": "The account of a removed peer stays at its engine.",
    "settlement_account_ready": "The engine has an account for the peer.",
    "settlement_awaits_operator": "It is booked. Somebody has to pay it, and then `settle PEER --confirm`.",
    "settlement_cancelled": "It was cancelled, and booked back.",
    "settlement_completed": "It is paid.",
    "settlement_declined": "An operator declined a payment: it is not credited.",
    "settlement_engine_unavailable": "The engine did not take an account; it is tried again.",
    "settlement_failed": "An attempt failed; it is made again.",
    "settlement_key_reused": "An Idempotency-Key was used for something else before.",
    "settlement_known_to_ledger": "The ledger had it already: it is not booked twice.",
    "settlement_message_failed": "A message between engines was not delivered.",
    "settlement_postponed": "It could not be decided now; it is tried again.",
    "settlement_received": "A payment of the peer was booked.",
    "settlement_refused": "The ledger refused it; what is owed becomes another settlement.",
    "settlement_resumed": "One of an earlier run goes on.",
    "settlement_started": "It is booked.",
    "settlement_triggered": "The threshold was reached, or an operator asked for it.",
    "settlement_waits_for_operator": "The engine reports more than is owed. Somebody has to accept or decline it.",
    "settlement_without_peer": "One is open of a peer that is not configured; it is kept.",
    "sink_broken": "**A fault of this program** in a sink; it is tried again.",
    "sink_caught_up": "A sink is no longer behind.",
    "sink_dead_letters_unread": "The file of dead letters cannot be read; they wait in it.",
    "sink_failed": "A sink does not take events; it is tried again, less and less often.",
    "sink_lags": "A sink is behind by more than `SINK_LAG_ALERT_SECONDS`.",
    "sink_missed_events": "Events were gone before a sink had taken them: how many, and which.",
    "sink_recovered": "A sink takes events again.",
    "sink_refused": "A sink refused events for good; they are dead letters (`sinks --dead`).",
    "sink_table_made": "The table of events did not exist, and was made.",
    "spooled_reservation_refused": "A hold that was made while the ledger was away is refused; it is made again with credit granted.",
    "standby": "Why this process waits.",
    "standby_again": "It waits again: another process was first.",
    "standby_ended": "It takes over, or stops.",
    "standby_has_booked": "It has booked what an earlier process left.",
    "standby_instead": "It waits, since another process is active.",
    "standby_started": "It waits until no other process is active.",
    "standby_without_http": "Health checks are answered by the active process, which has the port.",
    "telemetry_failed": "**A fault of this program** in telemetry; packets go on.",
    "traces_failed": "OTLP_ENDPOINT does not take traces.",
    "traces_resumed": "It does again.",
    "webhook_failed": "The webhook did not take a payment; it is told again.",
    "webhooks_wait": "The webhook cannot be told: the file of payments cannot be read.",
}  # fmt: skip
"""Meaning of each log event."""

_LEVELS: Final = {
    "debug": "debug", "info": "info", "warning": "warning", "error": "error", "level": "info, warning",
    "alert": "warning", "tally": "warning", "say": "warning", "_say": "warning", "_tell": "warning", "_note": "info",
}  # fmt: skip
"""By the name of what is called with the name of the event."""
_EVENT: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+|standby")
_NO_FIELDS: Final = frozenset(("exc_info",))
_COUNTER: Final = re.compile(r"(btp|ilp|telemetry|ledger|http|sinks?)_[a-z_]+")
_LEFT_OUT: Final = ("simulation", "cli", "tools")
"""Packages that write nothing to the log of a node."""

_HEAD_LOG: Final = """\
# Log events

Made from the sources by `python scripts/telemetry_reference.py`: meanings stand there.

The log goes to standard error, one event a line: JSON with `LOG_FORMAT=json` and where standard error is no terminal,
else for reading. Each has `event`, `level`, `timestamp` (UTC) and `nodeId`, and the fields below; some have more. `suppressed`
is the number of lines of this kind that were left out before this one: what peers can cause comes at a limited rate. Values of
fields whose names sound of secrets are `[redacted]`. `LOG_LEVEL` (`info`) leaves out what is below. **`error` is a fault of this
program; what peers, disks or networks do is `warning` at most.** Warnings are also kept, as `ALERT` events: `ilp-connector log --type alert`.

| event | level | fields | means |
|---|---|---|---|
"""
_HEAD_METRICS: Final = """\
# Metrics

Made from the sources by `python scripts/telemetry_reference.py`.

`GET /metrics` of the HTTP port, in Prometheus' text format. Off loopback, balances and amounts of peers are shown with `METRICS_KEY`,
`READ_API_KEY` or `ADMIN_API_KEY` only ([deployment](../deployment.md#monitoring)). The text is made at most once a second, less often with many peers. No
label carries a value that a peer chooses; `peer` is the configured id. Amounts are in the smallest unit of the asset. A metric that has
nothing to say (rates without `RATES_URL`, webhooks without wallets) is not there.

| metric | kind | labels | means |
|---|---|---|---|
"""


@dataclass(slots=True)
class Found:
    """What the sources say of a log event."""

    levels: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)


def _calls() -> Iterator[ast.Call]:
    for path in sorted(SOURCES.rglob("*.py")):
        if path.relative_to(SOURCES).parts[0] not in _LEFT_OUT:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    yield node


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))


def _called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def log_events() -> dict[str, Found]:
    """Every event that the sources write to the log, by its name."""
    found: dict[str, Found] = {}
    for call in _calls():
        level = _LEVELS.get(_called(call))
        if level is None:
            continue
        names = [text for one in call.args for text in _texts(one) if _EVENT.fullmatch(text)]
        shown = [
            _camel_case(one.arg) for one in call.keywords if one.arg and one.arg not in _NO_FIELDS
        ]
        for one in call.args:
            if isinstance(one, ast.Dict):
                shown += [text for key in one.keys if key is not None for text in _texts(key)]
        for name in names:
            event = found.setdefault(name, Found())
            event.levels += [one for one in level.split(", ") if one not in event.levels]
            event.fields += [one for one in shown if one not in event.fields]
    return dict(sorted(found.items()))


def log_page() -> str:
    """docs/reference/log-events.md.

    Raises:
        SystemExit: an event has no meaning here, or a meaning no event.
    """
    found = log_events()
    differing = sorted(found.keys() ^ LOG_EVENTS.keys())
    if differing:
        sys.exit(f"LOG_EVENTS and the sources differ in: {', '.join(differing)}")
    return _HEAD_LOG + "".join(
        f"| `{name}` | {', '.join(one.levels)} | {_listed(one.fields)} | {LOG_EVENTS[name]} |\n"
        for name, one in found.items()
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def metrics() -> dict[str, tuple[str, str, str]]:
    """Kind, labels and meaning of every metric, by its name as it is scraped.

    Raises:
        SystemExit: a counter has no meaning here, or a meaning no counter.
    """
    found: dict[str, tuple[str, str, str]] = {}
    for call in _calls():
        kind = {
            "CounterMetricFamily": "counter", "_counter": "counter", "GaugeMetricFamily": "gauge",
            "HistogramMetricFamily": "histogram", "family_of": "histogram",
        }.get(_called(call))  # fmt: skip
        texts = [text for one in call.args for text in _texts(one)]
        if kind is None or len(texts) < 2:
            continue
        labels = next(
            (ast.literal_eval(one.value) for one in call.keywords if one.arg == "labels"), ()
        )
        found[_scraped(texts[0], kind)] = (kind, _listed(list(labels)), texts[1])
    found |= _tabled()
    plain = set()
    for path in sorted(SOURCES.rglob("*.py")):
        if path.relative_to(SOURCES).parts[0] in ("web", "ilp_http", "node"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Dict):
                    plain |= {
                        text for key in node.keys if key is not None for text in _texts(key)
                        if _COUNTER.fullmatch(text)
                    }  # fmt: skip
    if plain != COUNTERS.keys():
        sys.exit(
            f"COUNTERS and the sources differ in: {', '.join(sorted(plain ^ COUNTERS.keys()))}"
        )
    for name, text in COUNTERS.items():
        found[_scraped(name, "counter")] = ("counter", "", text)
    return dict(sorted(found.items()))


def _tabled() -> dict[str, tuple[str, str, str]]:
    """As `metrics`: those of a table of sinks, whose rows begin with their kind, name and meaning."""
    kinds = {"CounterMetricFamily": "counter", "GaugeMetricFamily": "gauge"}
    found: dict[str, tuple[str, str, str]] = {}
    for node in ast.walk(ast.parse((SOURCES / "web" / "sinks.py").read_text("utf-8"))):
        if isinstance(node, ast.Tuple) and isinstance(node.elts[0], ast.Name):
            kind = kinds.get(node.elts[0].id)
            texts = [text for one in node.elts[1:] for text in _texts(one)]
            if kind is not None:
                found[_scraped(texts[0], kind)] = (kind, "`sink`", texts[1])
    return found


def _scraped(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def metrics_page() -> str:
    """docs/reference/metrics.md."""
    return _HEAD_METRICS + "".join(
        f"| `{name}` | {kind} | {labels} | {text} |\n"
        for name, (kind, labels, text) in metrics().items()
    )


def pages() -> dict[Path, str]:
    """Both pages, with their texts."""
    return {FOLDER / "log-events.md": log_page(), FOLDER / "metrics.md": metrics_page()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
