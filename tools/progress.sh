# Sourced by the scripts of this folder: one line a step, in the form "[1/4] packages      detail      done (31 s)".
#
# step NAME DETAIL COMMAND...  runs the command, its output in build/logs/NAME.log. On a terminal the line shows the last
# counter "[n/m]" that the command printed. If the command fails, the end of its log is shown and its status returned.
# TIERCEL_STEP ("2/4") is the number in front; none is shown where it is empty.

tiercel_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tiercel_cache=${TIERCEL_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tiercel}
tiercel_venv=$tiercel_root/build/venv

duration() {
  if (($1 < 60)); then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}

step_line() {
  printf '%s%-13s %-48s ' "${TIERCEL_STEP:+[$TIERCEL_STEP] }" "$1" "$2"
}

step_counter() {  # rewrites the line with the newest counter of the log, until killed
  while sleep 0.5; do
    local counter
    counter=$(tail -c 400 "$3" | tr '\r' '\n' | grep -oE '^\[[0-9]+/[0-9]+\]' | tail -n 1 | tr -d '[]') || true
    printf '\r%s' "$(step_line "$1" "${counter:-$2}")"
  done
}

step() {
  local name=$1 detail=$2 status=0 start=$SECONDS counter_pid=
  shift 2
  mkdir -p "$tiercel_root/build/logs"
  local log=$tiercel_root/build/logs/${name// /_}.log
  rm -f "$log"  # it may be of another user, who ran this through sudo
  : >"$log"
  step_line "$name" "$detail"
  if [[ -t 1 ]]; then
    step_counter "$name" "$detail" "$log" &
    counter_pid=$!
  fi
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [[ -n $counter_pid ]]; then
    kill "$counter_pid" && wait "$counter_pid" || true
    printf '\r%s' "$(step_line "$name" "$detail")"
  fi 2>/dev/null
  if ((status == 0)); then
    echo "done ($(duration $((SECONDS - start))))"
  else
    echo "failed ($(duration $((SECONDS - start)))), the end of ${log#"$tiercel_root"/}:"
    tail -n 40 "$log"
  fi
  return "$status"
}

step_nothing() {  # a step that found nothing to do
  step_line "$1" "$2"
  echo "done"
}
