#!/usr/bin/env bash
# Lists the newest record of every image with a stock consumer: which image, how large, deleted?
# The value is Avro; examples/subscribe.py shows how it is read.
#   apt-get install kcat && examples/subscribe-kcat.sh 127.0.0.1:9092 [TOPIC]
set -euo pipefail
bootstrap=${1:?usage: subscribe-kcat.sh HOST:PORT [TOPIC]}
topic=${2:-vexstream.vex-document}
# %k key, %S length of the value (-1: a tombstone), %p/%o where it stands; -e ends at the end.
kcat -C -q -b "$bootstrap" -t "$topic" -o beginning -e -f '%k %S %p/%o\n' |
  awk '{ newest[$1] = ($2 < 0 ? "deleted" : $2 " bytes") " at " $3 }
       END { for (image in newest) print image, newest[image] }' |
  sort
