# SPDX-License-Identifier: Apache-2.0
# Any POSIX shell, without starting another process.
folder=${1:-/tmp}
sum=0 i=0
while [ $i -lt 500 ]; do i=$((i + 1)) sum=$((sum + i * i)); done
echo "$sum $((1 << 40)) $((0xff))"
text="The quick brown fox"
echo "${text%% *} ${text#* } ${#text}"
i=0
while [ $i -lt 100 ]; do echo "$i line"; i=$((i + 1)); done >"$folder/from_shell"
lines=0
while read -r number rest; do lines=$((lines + number)); done <"$folder/from_shell"
echo "$lines"
cd "$folder" && echo from_*
case $text in *brown*) echo brown ;; *) echo none ;; esac
deep() { [ "$1" = 0 ] || deep $(($1 - 1)); }
deep 200 && echo deep
set -- one two three
shift && echo "$# $*"
printf '%05d|%-6s|%x\n' 314 left 255
trap 'echo leaving' EXIT
exit 17
