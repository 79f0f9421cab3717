#!/bin/sh
# embed.sh ROOT FILE...: the files as a C table (embedded.h) on standard output, each named by its path below ROOT.
set -eu
root=$1
shift
echo '#include "embedded.h"'
n=0
for f in "$@"; do
  n=$((n + 1))
  echo "static const unsigned char f$n[] = {"
  od -An -v -tu1 "$f" | sed 's/[0-9][0-9]*/&,/g'
  echo '0};'
done
echo 'const mx_embedded mx_embedded_files[] = {'
n=0
for f in "$@"; do
  n=$((n + 1))
  echo "{\"${f#"$root"}\", f$n, sizeof f$n - 1},"
done
echo '{0, 0, 0}};'
