/** Something of the API that a part of the page shows: asked when it is shown, and again when it may have changed. */

import { useEffect, useRef, useState } from "preact/hooks";
import { get, type Query } from "../model/api";
import { failed } from "../state";

export interface Asked<T> {
  readonly value: T | null;
  readonly fault: string;
}

/** `deps`: what it depends on besides path and query. An answer to an older question is dropped. */
export function useAsk<T>(path: string, query: Query, deps: readonly unknown[] = []): Asked<T> {
  const [asked, setAsked] = useState<Asked<T> & { readonly path: string }>({ value: null, fault: "", path });
  const run = useRef(0);
  const text = JSON.stringify(query);
  useEffect(() => {
    const mine = (run.current += 1);
    get<T>(path, query).then(
      (value) => {
        if (run.current === mine) setAsked({ value, fault: "", path });
      },
      (error: unknown) => {
        if (run.current === mine) setAsked((before) => ({ value: before.path === path ? before.value : null, fault: failed(error), path }));
      },
    );
    return () => {
      run.current += 1;
    };
  }, [path, text, ...deps]);
  return asked.path === path ? asked : { value: null, fault: "" };
}
