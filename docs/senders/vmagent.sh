#!/bin/sh
exec vmagent \
  -httpListenAddr=127.0.0.1:9429 \
  -promscrape.config=docs/senders/vmagent.yml \
  -remoteWrite.url=http://127.0.0.1:8480/insert/42:0/prometheus/api/v1/write \
  -remoteWrite.forcePromProto \
  -remoteWrite.tmpDataPath=/var/lib/vmagent
