#!/usr/bin/env bash
# Returns when every address in the file `dependencies` accepts connections, so that no start order is needed:
# each pod waits for what it needs instead of crashing until it is there.
set -u
here=$(dirname "$0")
while read -r address; do
  case $address in '' | '#'*) continue ;; esac
  host=${address%:*} port=${address##*:}
  until timeout 3 bash -c "exec 3<>/dev/tcp/$host/$port" 2>/dev/null; do
    echo "waiting for $address"
    sleep 2
  done
  echo "$address accepts connections"
done <"$here/dependencies"
