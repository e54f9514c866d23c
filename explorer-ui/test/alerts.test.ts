import { expect, test } from "vitest";
import { alertFields, alertText, pressing } from "../src/model/alerts";
import { inbox } from "../src/model/inbox";
import type { AlertEvent, Status } from "../src/model/types";
import { head, T0 } from "./samples";

function alert(seq: number, change: Partial<AlertEvent> = {}, ms = 0): AlertEvent {
  return { ...head("ALERT", seq, ms), name: "disk_nearly_full", level: "warning", peerId: "", detail: "", suppressed: 0, ...change };
}

test("a warning says its fields, also where they were cut short", () => {
  expect(alertFields('{"path":"/data","freeBytes":7}')).toEqual([["path", "/data"], ["freeBytes", "7"]]);
  expect(alertFields('{"path":"/dat…')).toEqual([["", '{"path":"/dat…']]);
  expect(alertFields("")).toEqual([]);
  expect(alertText(alert(1, { detail: '{"reason":"no room","freeBytes":7}', suppressed: 3 }))).toBe("no room · freeBytes 7 · 3 more before");
});

test("what strangers cause as they like needs nobody", () => {
  expect(pressing([alert(1, { name: "http_authentication_failed" }), alert(2, { name: "btp_authentication_failed" })], T0)).toEqual([]);
});

test("of each kind and peer the newest of an hour needs somebody, unless another row says it", () => {
  const alerts = [
    alert(1), alert(3), alert(2, { name: "audit_failed" }), alert(4, { name: "btp_dial_failed", peerId: "bob" }),
    alert(5, { name: "traces_failed" }, -3_600_001), alert(6, { peerId: "bob" }),
  ]; // prettier-ignore
  expect(pressing(alerts, T0).map((one) => one.seq)).toEqual([6, 3, 2]);
});

test("the inbox names a warning with its detail, and a fault of our own first", () => {
  const status = { accounting: { state: "available", backend: "embedded" } } as Status;
  const rows = (alerts: AlertEvent[]) => inbox({ status, peers: [], accounts: [], settlements: [], success: null, differing: [], alerts, nowMs: T0 });
  expect(rows([alert(1, { detail: '{"reason":"4 MB left"}' })])).toMatchObject([
    { level: "amber", text: "Warning: disk nearly full", detail: "4 MB left", tab: "log", query: { group: "alert" } },
  ]);
  const [one] = rows([alert(1), alert(2, { name: "payment_failed", level: "error" })]);
  expect(one).toMatchObject({ level: "rose", text: "2 warnings in the last hour" });
  expect(one?.items.map((item) => item.text)).toEqual(["A fault of this node: payment failed", "Warning: disk nearly full"]);
});
