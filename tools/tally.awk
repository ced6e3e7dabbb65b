# SPDX-License-Identifier: Apache-2.0
# Reads what ctest --output-junit wrote and prints "passed failed skipped". A GoogleTest program
# counts by its cases, any other by itself. Appends "name: reason" of what was skipped to `reasons`.

/^\t<testcase / {
  split($0, quoted, "\"")
  name = quoted[2]
  cases = bad = 0
  text = ""
  failing = /status="fail"/
  skipping = 0
  next
}
/^\t\t<skipped message="SKIP_/ { skipping = 1; next }
/^\t\t<skipped / { failing = 1; next }
/^\t\t<failure / { next }
{ sub(/^\t\t<system-out>/, ""); sub(/<\/system-out>$/, "") }

# Cases, also those that an emulated machine printed. What a case says last is why it skips.
/^\[ RUN      \] / { text = ""; next }
/^\[       OK \] / { cases++; passed++; next }
/^\[  FAILED  \] .* \([0-9]+ ms\)$/ { cases++; bad++; failed++; next }
/^\[  SKIPPED \] .* \([0-9]+ ms\)$/ {
  cases++; skipped++
  print name " " $4 ": " text >> reasons
  next
}

/^\t<\/testcase>/ {
  if (skipping) { skipped++; print name ": " text >> reasons }
  else if (failing && !bad) failed++
  else if (!failing && !cases) passed++
  next
}
/[^ \t]/ && !/: Skipped$/ { text = $0 }

END { print passed + 0, failed + 0, skipped + 0 }
