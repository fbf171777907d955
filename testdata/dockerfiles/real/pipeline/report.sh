#!/bin/sh
set -eu
awk '{ print $1 }' "$1" | sort | uniq -c | sed 's/^ *//' | sort -rn | head -n 1
cut -d ' ' -f 3 "$1" | tr -d / | paste -s -d , -
gzip -c "$1" | base64 -w 0 | wc -l
for file in "$(dirname "$1")"/*.log; do
    echo "read $(basename "$file")"
done
