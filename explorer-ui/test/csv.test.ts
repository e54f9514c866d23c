import { expect, test } from "vitest";
import { csv, PACKET_COLUMNS, packetCells, SETTLEMENT_COLUMNS, settlementCells } from "../src/model/csv";
import { fulfilled, rejected } from "./samples";

const USD = () => ({ code: "USD", scale: 9 });

test("what needs it is quoted, and a text of a peer is no formula", () => {
  const text = csv(["a", "b"], [['say "hi"', "x,y"], ["=1+1", "@cmd"], ["-5", null], [-5, "two\nlines"]]);
  expect(text).toBe('a,b\r\n"say ""hi""","x,y"\r\n\'=1+1,\'@cmd\r\n\'-5,\r\n-5,"two\nlines"\r\n');
});

test("a packet has its exact amount, in units too", () => {
  const cells = packetCells(fulfilled(1, "ab"), USD);
  expect(cells).toHaveLength(PACKET_COLUMNS.length);
  expect(cells.slice(5, 9)).toEqual(["0.0000001", "USD", "100", "fulfilled"]);
  expect(packetCells(rejected(1, "ab"), () => null).slice(5, 11)).toEqual([null, null, "100", "rejected", "F02", "no route"]);
});

test("a settlement is a line", () => {
  const cells = settlementCells({
    settlementId: "s", peerId: "bob", assetCode: "USD", assetScale: 2, direction: "outgoing", amount: "123456789", phase: "completed",
    payer: "operator", attempts: 0, error: "", nextAttemptMs: null, createdMs: 0, changedMs: 1000,
  }); // prettier-ignore
  expect(cells).toHaveLength(SETTLEMENT_COLUMNS.length);
  expect(cells.slice(0, 8)).toEqual(["1970-01-01T00:00:00.000Z", "1970-01-01T00:00:01.000Z", "s", "bob", "outgoing", "1234567.89", "USD", "123456789"]);
});
