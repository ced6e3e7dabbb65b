# SPDX-License-Identifier: Apache-2.0
# Bash without starting another process: arithmetic, arrays, patterns, files, traps, printf.
folder=${1:-/tmp}
declare -A counts
for word in to be or not to be; do counts[$word]=$((${counts[$word]:-0} + 1)); done
for word in be not or to; do printf '%s=%d ' "$word" "${counts[$word]}"; done
echo
numbers=() sum=0
for ((i = 1; i <= 500; i++)); do numbers+=($((i * i % 101))) sum=$((sum + i * i)); done
echo "${#numbers[@]} ${numbers[@]:10:5} $sum $((2 ** 40)) $((16#ff))"
text="The quick brown fox"
echo "${text//o/0} ${text%% *} ${text#* } ${#text} ${text^^}"
[[ $text =~ ([a-z]+)\ fox$ ]] && echo "matched ${BASH_REMATCH[1]}"
for ((i = 0; i < 100; i++)); do printf '%d line\n' "$i"; done >"$folder/from_bash"
lines=0
while read -r number rest; do lines=$((lines + number)); done <"$folder/from_bash"
echo "$lines $rest"
echo more >>"$folder/from_bash"
mapfile -t all <"$folder/from_bash"
echo "${#all[@]} ${all[100]}"
cd "$folder" && echo from_*
trap 'echo trapped' USR1
kill -USR1 $$
read -r -t 0.05 line </dev/null || echo "nothing to read"
case $text in *brown*) echo brown ;; *) echo none ;; esac
function deep { (($1 == 0)) && return 0 || deep $(($1 - 1)); }
deep 200 && echo deep
printf -v formatted '%05.2f|%-6s|%x' 3.14159 left 255
echo "$formatted"
trap 'echo leaving' EXIT
exit 17
