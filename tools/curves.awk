# SPDX-License-Identifier: Apache-2.0
# curves.awk POINTS: draws lines "SERIES<tab>COUNT<tab>MICROSECONDS", sorted by series and count, as
# an SVG with logarithmic axes.

function log10(value) { return log(value) / log(10) }
function x_of(count) { return 90 + 600 * (log10(count) - left) / (right - left) }
function y_of(time) { return 400 - 340 * (log10(time) - low) / (high - low) }

{
  if ($1 != names[series]) names[++series] = $1
  point[++points] = series; count[points] = $2; time[points] = $3
  if (points == 1 || $2 + 0 < least) least = $2 + 0
  if ($2 + 0 > most) most = $2 + 0
  if (points == 1 || $3 + 0 < fastest) fastest = $3 + 0
  if ($3 + 0 > slowest) slowest = $3 + 0
}
END {
  if (!points) exit 1
  split("#2e86ab #7fb7cf #c0392b #e2988f #27864f #8cc2a3", colours, " ")
  left = log10(least); right = log10(most)
  if (right == left) right = left + 1
  low = int(log10(fastest)); high = int(log10(slowest)) + 1
  if (log10(fastest) < low) low--
  print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"460\" font-family=\"sans-serif\" font-size=\"13\">"
  print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
  printf "<text x=\"10\" y=\"24\" font-size=\"16\">%s</text>\n", title
  # A line for each power of ten, and one for each count.
  for (power = low; power <= high; power++) {
    y = y_of(10 ^ power)
    printf "<line x1=\"90\" x2=\"690\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ccc\"/>\n", y, y
    printf "<text x=\"82\" y=\"%.1f\" text-anchor=\"end\">%d µs</text>\n", y + 4, 10 ^ power
  }
  for (i = 1; i <= points; i++) {
    if (count[i] in seen) continue
    seen[count[i]] = 1
    printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"60\" y2=\"400\" stroke=\"#eee\"/>\n", x_of(count[i]), x_of(count[i])
    printf "<text x=\"%.1f\" y=\"420\" text-anchor=\"middle\">%d</text>\n", x_of(count[i]), count[i]
  }
  print "<text x=\"390\" y=\"446\" text-anchor=\"middle\">clones alive</text>"
  for (s = 1; s <= series; s++) {
    path = ""
    for (i = 1; i <= points; i++) {
      if (point[i] != s) continue
      path = path (path == "" ? "" : " ") sprintf("%.1f,%.1f", x_of(count[i]), y_of(time[i]))
      printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x_of(count[i]), y_of(time[i]), colours[s]
      last = i
    }
    printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", path, colours[s]
    printf "<text x=\"700\" y=\"%.1f\" fill=\"%s\">%s</text>\n", y_of(time[last]) + 4, colours[s], names[s]
  }
  print "</svg>"
}
