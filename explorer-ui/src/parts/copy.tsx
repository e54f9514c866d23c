/** A button beside an id that copies it. */

import { useEffect, useRef, useState } from "preact/hooks";
import { cls } from "./bits";
import { Icon } from "./icons";

const SHOWN_MS = 1400;

/** Also where the browser lets no script at its clipboard: by plain HTTP from another machine. */
async function put(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    const before = document.activeElement;
    field.value = text;
    field.className = "off-screen";
    // Within an open dialog: what is outside of it cannot be selected.
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (before instanceof HTMLElement) before.focus({ preventScroll: true });
    return done;
  }
}

/** `what` stands in its name: "Copy the packet id". */
export function Copy(props: { text: string; what: string }) {
  const [said, setSaid] = useState<"" | "Copied" | "Could not be copied">("");
  const timer = useRef(0);
  useEffect(
    () => () => {
      window.clearTimeout(timer.current);
    },
    [],
  );
  return (
    <span class="copy">
      <button
        type="button"
        class={cls("copy-button", said === "Copied" && "copy-done")}
        aria-label={`Copy ${props.what}`}
        title={`Copy ${props.what}`}
        onClick={(event) => {
          event.stopPropagation();
          void put(props.text).then((done) => {
            setSaid(done ? "Copied" : "Could not be copied");
            window.clearTimeout(timer.current);
            timer.current = window.setTimeout(() => {
              setSaid("");
            }, SHOWN_MS);
          });
        }}
      >
        <Icon name={said === "Copied" ? "ok" : "copy"} />
      </button>
      <span class="copy-said" role="status">
        {said}
      </span>
    </span>
  );
}
