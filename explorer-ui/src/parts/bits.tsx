/** Small pieces that all tabs share. */

import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Level } from "../model/accounts";
import { amount, type Asset, balance, exactTitle } from "../model/format";
import { type Load } from "../model/store";

export function cls(...names: (string | false | null | undefined)[]): string {
  return names.filter(Boolean).join(" ");
}

/** Money: short to read, exact on hover and for screen readers. */
export function Money(props: { value: bigint; asset: Asset | null; signed?: boolean; unit?: boolean; class?: string }) {
  const { value, asset } = props;
  if (asset === null) {
    return (
      <span class={cls("num", props.class)} title="units of an asset that is not known here">
        {value.toString()}
      </span>
    );
  }
  return (
    <span class={cls("num", props.class)} title={exactTitle(value, asset)}>
      {amount(value, asset.scale, props.signed)}
      {props.unit !== false && <span class="unit"> {asset.code}</span>}
    </span>
  );
}

/** A balance: exact, with all decimals of its asset, the same wherever it stands. */
export function Balance(props: { value: bigint; asset: Asset; signed?: boolean }) {
  const { value, asset } = props;
  return (
    <span class="num" title={exactTitle(value, asset)}>
      {balance(value, asset.scale, props.signed)}
      <span class="unit"> {asset.code}</span>
    </span>
  );
}

export function Chip(props: { kind: string; children: ComponentChildren; title?: string }) {
  return (
    <span class={cls("chip", `chip-${props.kind}`)} {...(props.title ? { title: props.title } : {})}>
      {props.children}
    </span>
  );
}

export function Dot(props: { kind: string }) {
  return <span class={cls("dot", `dot-${props.kind}`)} aria-hidden="true" />;
}

/** A bar that fills up; its level is also said in words. */
export function Progress(props: { label: string; share: number | null; level: Level; words: ComponentChildren; testId?: string }) {
  const share = Math.max(0, Math.min(100, props.share ?? 0));
  return (
    <div class="progress" data-testid={props.testId} data-level={props.level}>
      <div class="progress-head">
        <span>{props.label}</span>
        <span class="progress-words">{props.words}</span>
      </div>
      <div
        class="progress-track"
        role="progressbar"
        aria-label={props.label}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(share)}
      >
        <div class={cls("progress-fill", `fill-${props.level}`)} style={{ width: `${share}%` }} />
      </div>
    </div>
  );
}

export function Panel(props: { title: string; aside?: ComponentChildren; class?: string; children: ComponentChildren; id?: string }) {
  return (
    <section class={cls("panel", props.class)} aria-label={props.title} {...(props.id ? { id: props.id } : {})}>
      <header class="panel-head">
        <h2>{props.title}</h2>
        {props.aside !== undefined && <div class="panel-aside">{props.aside}</div>}
      </header>
      {props.children}
    </section>
  );
}

export function Empty(props: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty" role="note">
      <svg viewBox="0 0 48 24" class="empty-mark" aria-hidden="true">
        <path d="M8 12h32" />
        <circle cx="8" cy="12" r="5" />
        <circle cx="24" cy="12" r="4" />
        <circle cx="40" cy="12" r="5" />
      </svg>
      <p class="empty-title">{props.title}</p>
      {props.children !== undefined && <p class="empty-text">{props.children}</p>}
    </div>
  );
}

/** What it waits for is said in words as soon as it takes longer than a moment. */
export function Loading(props: { what: string; rows?: number; words?: string }) {
  return (
    <div class="loading" role="status" aria-label={`Loading ${props.what}`}>
      <p class="loading-words">{props.words ?? `Loading ${props.what} …`}</p>
      {Array.from({ length: props.rows ?? 4 }, (_, index) => (
        <div class="bone" key={index} />
      ))}
    </div>
  );
}

export function Failure(props: { message: string; retry?: () => void }) {
  return (
    <div class="failure" role="alert">
      <p class="failure-title">This could not be loaded</p>
      <p>{props.message}</p>
      {props.retry !== undefined && (
        <button type="button" class="button" onClick={props.retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Loading, failed, or the children. */
export function Loaded(props: { load: Load; what: string; retry?: () => void; children: ComponentChildren }) {
  if (props.load.state === "loading") return <Loading what={props.what} />;
  if (props.load.state === "error") {
    return <Failure message={props.load.message} {...(props.retry ? { retry: props.retry } : {})} />;
  }
  return <>{props.children}</>;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** The size of an element, as it changes. */
export function useSize<T extends Element>() {
  const ref = useRef<T>(null);
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const measure = () => {
      const { width, height } = element.getBoundingClientRect();
      setSize((before) => (before.width === width && before.height === height ? before : { width, height }));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => {
      observer.disconnect();
    };
  }, []);
  return [ref, size] as const;
}

/** Whether an element is on screen, or soon will be. */
export function useNear<T extends Element>() {
  const ref = useRef<T>(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const observer = new IntersectionObserver(
      (entries) => {
        setNear(entries.some((entry) => entry.isIntersecting));
      },
      { rootMargin: "300px" },
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
    };
  }, []);
  return [ref, near] as const;
}

/** Do something now and every so often while the part is shown and the page looked at. */
export function useEvery(work: () => unknown, ms: number, deps: readonly unknown[] = []): void {
  useEffect(() => {
    void work();
    const timer = window.setInterval(() => {
      if (!document.hidden) void work();
    }, ms);
    return () => {
      window.clearInterval(timer);
    };
  }, [ms, ...deps]);
}

/** Where an arrow key, Home or End leads in a row of `length` things; null: it is another key. */
export function stepped(key: string, index: number, length: number): number | null {
  switch (key) {
    case "ArrowRight":
    case "ArrowDown":
      return (index + 1) % length;
    case "ArrowLeft":
    case "ArrowUp":
      return (index - 1 + length) % length;
    case "Home":
      return 0;
    case "End":
      return length - 1;
    default:
      return null;
  }
}

/** One of several, side by side: one stop of the Tab key, arrows choose. */
export function Segments(props: {
  label: string;
  options: readonly (readonly [id: string, label: string, ...rest: unknown[]])[];
  chosen: string;
  onChoose: (id: string) => void;
}) {
  const { options } = props;
  const box = useRef<HTMLDivElement>(null);
  const noneChosen = !options.some(([id]) => id === props.chosen);
  return (
    <div class="segments" role="radiogroup" aria-label={props.label} ref={box}>
      {options.map(([id, label], index) => (
        <button
          key={id}
          type="button"
          role="radio"
          aria-checked={id === props.chosen}
          tabIndex={id === props.chosen || (index === 0 && noneChosen) ? 0 : -1}
          class={cls("segment", id === props.chosen && "segment-on")}
          onClick={() => {
            props.onChoose(id);
          }}
          onKeyDown={(event) => {
            const at = stepped(event.key, index, options.length);
            const next = options[at ?? -1];
            if (at === null || next === undefined) return;
            event.preventDefault();
            props.onChoose(next[0]);
            box.current?.querySelectorAll("button")[at]?.focus();
          }}
        >
          {label}
        </button>
      ))}
    </div>
  );
}

/** Give the focus to what `find` names when this part goes while it has the focus. */
export function useFocusBack(box: RefObject<HTMLElement | null>, find: () => HTMLElement | null): void {
  useLayoutEffect(() => {
    const element = box.current;
    return () => {
      if (!element?.contains(document.activeElement)) return;
      // When it has gone: what it covered could not be reached before.
      requestAnimationFrame(() => {
        if (document.activeElement === document.body) find()?.focus({ preventScroll: true });
      });
    };
  }, []);
}

/** A number that changes often, at most so often. */
export function useThrottled(value: number, ms: number): number {
  const [shown, setShown] = useState(value);
  const timer = useRef(0);
  const latest = useRef(value);
  latest.current = value;
  useEffect(() => {
    if (timer.current !== 0 || shown === value) return;
    timer.current = window.setTimeout(() => {
      timer.current = 0;
      setShown(latest.current);
    }, ms);
  }, [value, shown]);
  useEffect(
    () => () => {
      window.clearTimeout(timer.current);
    },
    [],
  );
  return shown;
}

/** Whether the window is as narrow as a media query says. */
export function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => window.matchMedia(query).matches);
  useEffect(() => {
    const list = window.matchMedia(query);
    const change = () => {
      setMatches(list.matches);
    };
    change();
    list.addEventListener("change", change);
    return () => {
      list.removeEventListener("change", change);
    };
  }, [query]);
  return matches;
}

/** A dialog of the browser: it keeps the focus, and Esc closes it. */
export function Dialog(props: { label: string; class?: string; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  const gone = useRef(false);
  useEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => {
      // The browser tells late that it has closed: the next one may be open by then.
      gone.current = true;
      dialog?.close();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      class={cls("dialog", props.class)}
      aria-label={props.label}
      onClose={() => {
        if (!gone.current) props.onClose();
      }}
      onClick={(event) => {
        if (event.target === ref.current) props.onClose();
      }}
    >
      <div class="dialog-body">{props.children}</div>
    </dialog>
  );
}
