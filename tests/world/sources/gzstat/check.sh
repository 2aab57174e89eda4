# What gzstat says of a file of known size, of two, of one cut short and of none.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -c 100000 /dev/zero | gzip -n >"$work/zeros.gz"
printf hello | gzip -n >"$work/hello.gz"
head -c 40 "$work/zeros.gz" >"$work/cut.gz"
./gzstat --bare "$work/zeros.gz" | grep -q "^[0-9]* 100000 $work/zeros.gz\$"
./gzstat --bare "$work/zeros.gz" "$work/hello.gz" | grep -q '^[0-9]* 100005 all$'
! ./gzstat "$work/cut.gz" 2>/dev/null
! ./gzstat "$work/missing.gz" 2>/dev/null
