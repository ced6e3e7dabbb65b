# SPDX-License-Identifier: Apache-2.0
# Any awk: fields, arrays, functions, files.
function factorial(n) { return n <= 1 ? 1 : n * factorial(n - 1) }
{ sum += $2; last[$2 % 7] = $1; length_sum += length($0) }
/9$/ { nines++ }
END {
  print NR, sum, nines, length_sum, factorial(10)
  for (i = 0; i < 7; i++) printf "%s:%s ", i, last[i]
  print toupper("text"), substr("abcdef", 2, 3), sprintf("%.4f", atan2(1, 1) * 4)
  file = folder "/from_awk"
  for (i = 1; i <= 100; i++) print i, i * i > file
  close(file)
  while ((getline line < file) > 0) { split(line, parts, " "); squares += parts[2] }
  print squares
  exit 18
}
