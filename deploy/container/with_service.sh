#!/bin/sh
# with_service COMMAND...: a node service and one engine in one container. The service is there before the engine starts
# and ends after it; both end with the container. TIERCEL_SERVE holds flags of `tiercel serve`, separated by spaces.
set -u
socket=${TIERCEL_SOCKET:-/run/tiercel/tiercel.sock}
config=${TIERCEL_CONFIG:-/etc/tiercel.toml}

# shellcheck disable=SC2086 # flags
tiercel serve --config "$config" --service-socket "$socket" ${TIERCEL_SERVE:-} &
service=$!
while ! [ -S "$socket" ] && kill -0 "$service" 2>/dev/null; do sleep 0.1; done
kill -0 "$service" 2>/dev/null || { wait "$service"; exit $?; }

"$@" &
engine=$!
trap 'kill -TERM "$engine" 2>/dev/null' TERM INT
wait "$engine"
status=$?
while kill -0 "$engine" 2>/dev/null; do # a signal ends the wait, not the engine
  wait "$engine"
  status=$?
done
kill -TERM "$service" 2>/dev/null
wait "$service"
exit "$status"
