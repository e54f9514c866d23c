/** Asks for the key where the connector wants one. */

import { useSignal } from "@preact/signals";
import { ApiError, logIn } from "../model/api";
import { again, store } from "../state";

export function Login() {
  const key = useSignal("");
  const fault = useSignal("");
  const busy = useSignal(false);

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    busy.value = true;
    fault.value = "";
    try {
      await logIn(key.value);
      key.value = "";
      store.needsLogin.value = false;
      again();
    } catch (error) {
      fault.value =
        error instanceof ApiError && error.status === 401
          ? "That is not the key."
          : error instanceof ApiError && error.status === 429
            ? "Too many attempts. Wait a little, then try again."
            : error instanceof Error
              ? error.message
              : String(error);
    }
    busy.value = false;
  };

  return (
    <main class="login">
      <form class="login-card" onSubmit={(event) => void submit(event)}>
        <svg viewBox="0 0 32 32" class="mark" aria-hidden="true">
          <path d="M6 16h20" />
          <circle class="mark-owed" cx="6" cy="16" r="4.5" />
          <circle class="mark-node" cx="16" cy="16" r="3.5" />
          <circle class="mark-owing" cx="26" cy="16" r="4.5" />
        </svg>
        <h1>ILP connector</h1>
        <p>This connector can be reached from other machines, so it asks for its key.</p>
        <label for="key">Key</label>
        <input
          id="key"
          class="input"
          type="password"
          autocomplete="current-password"
          required
          autofocus
          value={key.value}
          aria-invalid={fault.value !== ""}
          aria-describedby="fault"
          onInput={(event) => {
            key.value = event.currentTarget.value;
          }}
        />
        <p id="fault" class="fault" role="alert">
          {fault.value}
        </p>
        <button type="submit" class="button button-main" disabled={busy.value}>
          {busy.value ? "Checking …" : "Log in"}
        </button>
        <p class="hint">It is the value of ADMIN_API_KEY or of READ_API_KEY. The browser keeps a cookie made from it, never the key.</p>
      </form>
    </main>
  );
}
