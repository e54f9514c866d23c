/** Dark or light: as the system prefers, unless one was chosen in this browser. */

import { signal } from "@preact/signals";

export const THEMES = ["system", "dark", "light"] as const;
export type Theme = (typeof THEMES)[number];

const KEY = "theme";

function stored(): Theme {
  try {
    const found = localStorage.getItem(KEY);
    return THEMES.find((one) => one === found) ?? "system";
  } catch {
    return "system"; // a browser that lets nothing be kept
  }
}

export const theme = signal<Theme>(stored());

function show(chosen: Theme): void {
  const root = document.documentElement;
  if (chosen === "system") delete root.dataset["theme"];
  else root.dataset["theme"] = chosen;
}

export function setTheme(chosen: Theme): void {
  theme.value = chosen;
  show(chosen);
  try {
    localStorage.setItem(KEY, chosen);
  } catch {
    // It holds until the page is closed.
  }
}

/** Before anything is drawn; what another tab of this node chooses is taken, too. */
export function watchTheme(): void {
  show(theme.value);
  window.addEventListener("storage", (event) => {
    if (event.key !== KEY) return;
    theme.value = stored();
    show(theme.value);
  });
}
