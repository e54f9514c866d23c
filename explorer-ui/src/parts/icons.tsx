/** Line icons, drawn with the colour of their text. */

const PATHS = {
  dashboard: "M3 13h4l2-7 4 12 3-8 1.5 3H21",
  packets: "M4 7h16M4 12h16M4 17h10",
  accounts: "M4 8h16v11H4zM4 8l2-3h12l2 3M15.5 13.5h1.5",
  peers: "M6 12h12M6 12m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0M18 6m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0M18 18m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0M8.5 10.5l7.3-3.5M8.5 13.5l7.3 3.5",
  keys: "M14.5 9.5m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0M11 12.5L4 19.5M6.5 17l2.5 2.5M9 14.5l2 2",
  log: "M6 4h12v16H6zM9 8.500h6M9 12h6M9 15.500h4",
  search: "M10.5 10.5m-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0M15 15l5 5",
  help: "M9 9.2a3 3 0 1 1 4.6 2.5c-1 .7-1.6 1.2-1.6 2.5M12 17.6v.1",
  close: "M6 6l12 12M18 6L6 18",
  up: "M12 19V5M6 11l6-6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  even: "M5 9h14M5 15h14",
  link: "M14 4h6v6M20 4l-9 9M18 13v6H5V6h6",
  warn: "M12 4l9 16H3zM12 10v4.5M12 17.4v.1",
  stop: "M12 12m-8.5 0a8.5 8.5 0 1 0 17 0a8.5 8.5 0 1 0-17 0M9 9l6 6M15 9l-6 6",
  ok: "M5 12.5l4.5 4.5L19 7.5",
  copy: "M9 9h11v11H9zM6 15H4V4h11v2",
  way: "M4 6h9a3 3 0 0 1 3 3v1M20 18h-9a3 3 0 0 1-3-3v-1M5 6m-1.500 0a1.500 1.500 0 1 0 3 0a1.500 1.500 0 1 0-3 0M18 18m-1.500 0a1.500 1.500 0 1 0 3 0a1.500 1.500 0 1 0-3 0",
  bolt: "M13 3L5 14h6l-1 7 8-11h-6z",
  sun: "M12 12m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0M12 3v1.500M12 19.500V21M3 12h1.500M19.500 12H21M5.600 5.600l1.100 1.100M17.300 17.300l1.100 1.100M5.600 18.400l1.100-1.100M17.300 6.700l1.100-1.100",
  moon: "M20 14.500A8 8 0 0 1 9.500 4a8 8 0 1 0 10.500 10.500z",
  screen: "M4 5h16v11H4zM9 20h6M12 16v4",
  next: "M6 9l6 6 6-6",
  previous: "M6 15l6-6 6 6",
  shield: "M12 3l8 3v6c0 4.5-3.2 7.8-8 9-4.8-1.2-8-4.5-8-9V6z",
  lock: "M6 11h12v9H6zM8.500 11V8a3.5 3.5 0 0 1 7 0v3",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon(props: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[props.name]} />
    </svg>
  );
}
