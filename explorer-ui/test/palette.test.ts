import { expect, test } from "vitest";
import { best, digitsOf, type Thing } from "../src/model/palette";

const thing = (title: string, note: string, rank = 0, words = ""): Thing => ({ key: title, title, note, rank, words });
const THINGS = [
  thing("Peers", "page", 0),
  thing("bob", "peer, connected", 2),
  thing("Settle with bob", "action", 3),
  thing("Limits of bob", "action", 3, "credit raise"),
  thing("bobby", "peer, not connected", 2),
];
const titles = (text: string, max = 9) => best(THINGS, text, max).map((one) => one.title);

test("what is named comes before what begins so, and that before what has it somewhere", () => {
  expect(titles("bob")).toEqual(["bob", "bobby", "Settle with bob", "Limits of bob"]);
});

test("every word has to fit, in any order, also words that are not shown", () => {
  expect(titles("bob set")).toEqual(["Settle with bob"]);
  expect(titles("bob credit")).toEqual(["Limits of bob"]);
  expect(titles("bob nothing")).toEqual([]);
});

test("without words there are the first of each kind, so many as have room", () => {
  expect(titles("", 2)).toEqual(["Peers", "bob"]);
});

test("digits of an id or a condition are told from words", () => {
  expect(digitsOf(" 01A2ff ")).toBe("01a2ff");
  for (const text of ["abc", "g.bob", "a".repeat(65), ""]) expect(digitsOf(text)).toBeNull();
});
