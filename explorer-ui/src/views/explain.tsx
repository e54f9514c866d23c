/** What would happen to a packet to an address now, and why. */

import { useSignal } from "@preact/signals";
import { get } from "../model/api";
import { count } from "../model/format";
import type { Foretold } from "../model/types";
import { failed } from "../state";

const ADDRESS = /^(g|private|example|peer|self|test[123]?|local)(\.[A-Za-z0-9_~-]+)+$/;

export function Explain() {
  const answer = useSignal<Foretold | null>(null);
  const fault = useSignal("");
  const ask = async (event: SubmitEvent) => {
    event.preventDefault();
    const destination = String(new FormData(event.currentTarget as HTMLFormElement).get("destination") ?? "").trim();
    if (destination === "") return;
    answer.value = null;
    if (!ADDRESS.test(destination)) {
      fault.value = "That is not an ILP address, such as g.bob.shop.";
      return;
    }
    try {
      answer.value = await get<Foretold>("api/explain", { destination });
      fault.value = "";
    } catch (error) {
      fault.value = failed(error);
    }
  };
  const found = answer.value;
  return (
    <form class="explain" onSubmit={(event) => void ask(event)}>
      <input class="input grow" name="destination" placeholder="What would happen to a packet to … now?" aria-label="Destination to explain" autocomplete="off" />
      <button type="submit" class="button">
        Explain
      </button>
      {fault.value !== "" && (
        <p class="fault" role="alert">
          {fault.value}
        </p>
      )}
      {found !== null && (
        <p class="explain-answer" role="status" data-testid="explained">
          <Outcome found={found} />
          <Way found={found} />
        </p>
      )}
    </form>
  );
}

function Outcome(props: { found: Foretold }) {
  const { found } = props;
  const hop = found.nextHop;
  const down = hop !== null && !hop.connected;
  switch (found.outcome) {
    case "rejected":
      return (
        <b class="say-bad">
          {found.code}: {found.message}
          {down ? `; the link with ${hop.peerId} is down` : ""}
        </b>
      );
    case "sent":
      return <b>sent to {hop?.peerId ?? "the next hop"}, which decides</b>;
    case "delivered":
      return <b>given to this node's receiver, which decides</b>;
    default:
      return <b>fulfilled by this node</b>;
  }
}

function Way(props: { found: Foretold }) {
  const { route, shorter, beaten } = props.found;
  if (route === null) return <span class="muted"> No route leads there.</span>;
  return (
    <span>
      {" "}
      By <code>{route.prefix === "" ? "(default)" : route.prefix}</code> from {route.source}
      {route.nextHop === "" || route.nextHop === "local" ? "" : ` to ${route.nextHop}`}
      {shorter.length + beaten.length > 0 && (
        <span class="muted"> ({count(shorter.length)} shorter, {count(beaten.length)} beaten)</span>
      )}
      .
    </span>
  );
}
