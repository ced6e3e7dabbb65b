# SPDX-License-Identifier: Apache-2.0
# gawk: fields, arrays, regular expressions, functions, sorting, files.
function factorial(n) { return n <= 1 ? 1 : n * factorial(n - 1) }
{ sum += $2; last[$2 % 7] = $1; length_sum += length($0) }
/9$/ { nines++ }
END {
  print NR, sum, nines, length_sum, factorial(15)
  n = asorti(last, keys)
  for (i = 1; i <= n; i++) printf "%s:%s ", keys[i], last[keys[i]]
  print ""
  print gensub(/(l)(ine)/, "\\2\\1", "g", "line line"), toupper("text"), substr("abcdef", 2, 3)
  print strftime("%Y-%m-%d", 86400 * 366, 1), and(12, 10), sprintf("%.4f", atan2(1, 1) * 4)
  file = folder "/from_awk"
  for (i = 1; i <= 100; i++) print i, i * i > file
  close(file)
  while ((getline line < file) > 0) { split(line, parts, " "); squares += parts[2] }
  print squares
  exit 18
}
