# SPDX-License-Identifier: Apache-2.0
# ratios.awk MEDIANS RATIOS: prints the medians, then each ratio next to its bound, and draws the
# ratios into the file `svg`. Fails where a bound is exceeded or a ratio cannot be formed. A name
# with # is a counter; what it is divided by may be 1.

BEGIN { median["1"] = 1 }
FNR == NR {
  median[$1] = $2
  if ($1 ~ /#/) { figures[++counted] = sprintf("%-54s %10.1f", $1, $2); next }
  if ($2 == "-") printf "%-32s skipped: %s\n", $1, $3
  else printf $2 < 10 ? "%-32s %12.3f us%s\n" : "%-32s %12.1f us%s\n", $1, $2, $4 == "" ? "" : "  " $4
  next
}
/^#/ || /^$/ { next }
{
  if (!header && counted) {
    print ""
    for (i = 1; i <= counted; i++) print figures[i]
  }
  if (!header++) printf "\n%-66s %8s %8s\n", "ratio", "is", "at most"
  label = $2 == "1" ? $1 : $1 " / " $2
  if (median[$1] + 0 == 0 || median[$2] + 0 == 0) {
    printf "%-66s %8s %8s  not measured\n", label, "-", $3
    if ($3 != "-") bad = 1
    next
  }
  ratio = median[$1] / median[$2]
  over = $3 != "-" && ratio > $3 + 0
  if (over) bad = 1
  printf "%-66s %8.3f %8s%s\n", label, ratio, $3, over ? "  ABOVE" : ""
  n++
  labels[n] = label; ratios[n] = ratio; bounds[n] = $3; colours[n] = over ? "#c0392b" : "#2e86ab"
  top = ratio > top ? ratio : top
  if ($3 != "-" && $3 + 0 > top) top = $3 + 0
}
END {
  height = 50 + 34 * n
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n", height > svg
  print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>" > svg
  printf "<text x=\"10\" y=\"22\" font-size=\"16\">%s: ratios of medians of one run (line: the bound)</text>\n", title > svg
  for (i = 1; i <= n; i++) {
    y = 40 + 34 * (i - 1)
    width = 400 * ratios[i] / top
    printf "<text x=\"10\" y=\"%d\">%s</text>\n", y + 16, labels[i] > svg
    printf "<rect x=\"420\" y=\"%d\" width=\"%.1f\" height=\"22\" fill=\"%s\"/>\n", y, width, colours[i] > svg
    printf "<text x=\"%.1f\" y=\"%d\">%.2f</text>\n", 426 + width, y + 16, ratios[i] > svg
    if (bounds[i] != "-") {
      x = 420 + 400 * bounds[i] / top
      printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"black\" stroke-width=\"2\"/>\n", x, x, y - 3, y + 25 > svg
    }
  }
  print "</svg>" > svg
  exit bad
}
