/**
 * Numbers, times and names as people read them.
 *
 * Money is never a float: amounts are decimal strings on the wire, `bigint` here, text on screen.
 */

const MINUS = "\u2212";

export interface Asset {
  readonly code: string;
  readonly scale: number;
}

export function units(text: string | number | bigint | null | undefined): bigint {
  if (text === null || text === undefined || text === "") return 0n;
  return BigInt(text);
}

function grouped(digits: string): string {
  return digits.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

function abs(value: bigint): bigint {
  return value < 0n ? -value : value;
}

function signOf(value: bigint, signed: boolean): string {
  if (value < 0n) return MINUS;
  return signed && value > 0n ? "+" : "";
}

/** All digits, trailing zeros of the fraction left out: `1,234.5`. */
export function exact(value: bigint, scale: number, signed = false): string {
  const text = abs(value).toString().padStart(scale + 1, "0");
  const whole = text.slice(0, text.length - scale);
  const fraction = scale === 0 ? "" : text.slice(text.length - scale).replace(/0+$/, "");
  return signOf(value, signed) + grouped(whole) + (fraction === "" ? "" : `.${fraction}`);
}

/** `numerator / denominator`, halves away from zero; both positive. */
function rounded(numerator: bigint, denominator: bigint): bigint {
  return (numerator + denominator / 2n) / denominator;
}

/**
 * To read at a glance: at least two decimals, at most `significant` digits that count. What is not
 * zero never reads as zero.
 */
export function amount(value: bigint, scale: number, signed = false, significant = 6): string {
  const size = abs(value);
  const digits = size.toString().length;
  const wholeDigits = Math.max(0, digits - scale);
  const decimals = wholeDigits > 0 ? Math.max(2, significant - wholeDigits) : scale - digits + Math.min(4, significant);
  if (decimals >= scale) return exact(value, scale, signed);
  const cut = 10n ** BigInt(scale - decimals);
  const kept = rounded(size, cut) * cut;
  return exact(value < 0n ? -kept : kept, scale, signed);
}

/** So many digits of a fraction are always shown of a balance, so that balances of an asset align and are equal everywhere. */
const BALANCE_DECIMALS_MAX = 9;

/** A balance: exact, with all decimals of its asset. */
export function balance(value: bigint, scale: number, signed = false): string {
  if (scale > BALANCE_DECIMALS_MAX) return exact(value, scale, signed);
  const text = abs(value).toString().padStart(scale + 1, "0");
  const fraction = scale === 0 ? "" : `.${text.slice(text.length - scale)}`;
  return signOf(value, signed) + grouped(text.slice(0, text.length - scale)) + fraction;
}

const SUFFIXES: readonly (readonly [number, string])[] = [
  [12, "T"],
  [9, "B"],
  [6, "M"],
  [3, "K"],
];

/** For axes and narrow places: `1.2M`, `340`, `0.0002`. */
export function compact(value: bigint, scale: number, signed = false): string {
  const size = abs(value);
  for (const [power, suffix] of SUFFIXES) {
    if (size >= 10n ** BigInt(scale + power)) {
      const tenths = rounded(size * 10n, 10n ** BigInt(scale + power));
      return signOf(value, signed) + exact(tenths, 1) + suffix;
    }
  }
  return amount(value, scale, signed, 3);
}

/** The whole truth, for tooltips: `0.000001 USD (1,000 units of 10^-9)`. */
export function exactTitle(value: bigint, asset: Asset): string {
  const raw = `${value < 0n ? MINUS : ""}${grouped(abs(value).toString())}`;
  return `${exact(value, asset.scale)} ${asset.code} (${raw} units of 10^${MINUS}${asset.scale})`;
}

/** What a net balance says, in words. */
export function owes(net: bigint): "owes us" | "we owe" | "even" {
  return net > 0n ? "owes us" : net < 0n ? "we owe" : "even";
}

/** `part / whole` in percent with one decimal, without floats on the way; null when there is no whole. */
export function percent(part: bigint, whole: bigint): number | null {
  if (whole <= 0n) return null;
  return Number((part * 1000n) / whole) / 10;
}

/** A count or a rate: `1,234`, `12.5`, `0`. */
export function count(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size >= 100 || Number.isInteger(value) ? Math.round(value).toString() : value.toFixed(1);
  return text.replace(/^(-?\d+)/, (whole) => grouped(whole));
}

/** A duration in milliseconds: `0.42 ms`, `18 ms`, `1.4 s`. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return "–";
  if (ms < 10) return `${ms.toFixed(ms < 1 ? 2 : 1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return span(ms / 1000);
}

/** A long time in seconds: `12 s`, `5 min`, `3 h 20 min`, `4 d 2 h`. */
export function span(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) {
    const minutes = Math.floor((s % 3600) / 60);
    return `${Math.floor(s / 3600)} h${minutes > 0 ? ` ${minutes} min` : ""}`;
  }
  const hours = Math.floor((s % 86_400) / 3600);
  return `${Math.floor(s / 86_400)} d${hours > 0 ? ` ${hours} h` : ""}`;
}

function two(value: number): string {
  return value.toString().padStart(2, "0");
}

/** Local time of day, with milliseconds where they are wanted. */
export function clock(ms: number, millis = false): string {
  const t = new Date(ms);
  const base = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  return millis ? `${base}.${t.getMilliseconds().toString().padStart(3, "0")}` : base;
}

/** Local date and time of day. */
export function dateClock(ms: number): string {
  const t = new Date(ms);
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${clock(ms)}`;
}

/** The head and the tail of a long id. */
export function shortId(id: string, head = 6, tail = 4): string {
  return id.length <= head + tail + 1 ? id : `${id.slice(0, head)}…${id.slice(-tail)}`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** A share in percent, as long as its digits tell something. */
export function share(percent_: number): string {
  return `${percent_ < 1000 ? percent_ : count(Math.round(percent_))} %`;
}
