# SPDX-License-Identifier: Apache-2.0
# jq: standard input is one string of lines.
def fib: if . < 2 then . else (. - 1 | fib) + (. - 2 | fib) end;
split("\n") | map(select(length > 0)) | {
  lines: length,
  words: (map(split(" ")[1] | tonumber) | {sum: add, max: max}),
  groups: (group_by(.[-1:]) | map({key: .[0][-1:], value: length}) | from_entries),
  tests: (map(select(test("9+$"))) | length),
  fib: (15 | fib),
  date: (86400 * 366 | todate),
  recursed: ([[1, [2, [3, {"a": 4}]]] | .. | numbers] | add),
  paths: ([paths({"a": [1, {"b": 2}]})]? // "none"),
  text: ("\u00fc" | @base64), format: "\(1 / 3)", reduced: (reduce range(100) as $i (0; . + $i * $i))
}
