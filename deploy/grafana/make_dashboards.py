#!/usr/bin/env python3
"""make_dashboards.py [FOLDER]: writes the Grafana dashboards overview.json, host.json, disk.json and tenants.json.

The JSON of a dashboard is long and repeats itself; what is meant stands in the tables below: rows of panels, a panel
being a title, a unit, a sentence and its queries. FOLDER is this one if none is given; a test compares what lies here
with what this writes. The data source and the instance are variables, so that a dashboard can be imported anywhere.
"""

import json
import sys
from pathlib import Path

SCHEMA = 39  # of Grafana 10.4 and later; newer versions migrate it themselves
HERE = 'job="tiercel",instance=~"$instance"'
TIER_HOST, TIER_DISK = 'tier="host"', 'tier="disk"'
STATE_ON, STATE_OUT = 'state="on"', 'state=~"off|read_only|refused"'


def at(metric, more=""):
    """A selector of a metric of the chosen instances."""
    return f"{metric}{{{HERE}{',' + more if more else ''}}}"


def rate(metric, more=""):
    return f"rate({at(metric, more)}[$__rate_interval])"


def quantile(q, metric):
    return f"histogram_quantile({q}, sum by (le) ({rate(metric + '_bucket')}))"


def percentiles(metric):
    return [(f"p{round(100 * q)}", quantile(q, metric)) for q in (0.5, 0.95, 0.99)]


ASKED = f"(sum({rate('tiercel_load_blocks_total')}) + sum({rate('tiercel_missed_blocks_total')}))"
ERRORS = [
    ("commit failed", "tiercel_commit_failures_total"),
    ("checksum, memory", "tiercel_checksum_failures_total"),
    ("checksum, disk", "tiercel_disk_checksum_failures_total"),
    ("not readable", "tiercel_disk_unreadable_blocks_total"),
    ("copies given up", "tiercel_disk_lost_blocks_total"),
    ("read errors", "tiercel_disk_read_errors_total"),
    ("short reads", "tiercel_disk_short_reads_total"),
    ("write errors", "tiercel_disk_write_errors_total"),
    ("past the deadline", "tiercel_disk_deadlines_total"),
    ("blocks not written", "tiercel_demotions_failed_total"),
]
DISK_ERRORS = [error for error in ERRORS if "disk" in error[1] or "demotion" in error[1]]


def counted(errors):
    return [(name, f"sum(increase({at(metric)}[$__rate_interval]))") for name, metric in errors]


# (title, kind, unit, width of 24, what it says, [(legend, expression)])
OVERVIEW = ("Tiercel: overview", [
    ("Now", [
        ("Services", "stat", "short", 4, "Services that answer.", [("", f"sum({at('up')})")]),
        ("Found in the cache", "stat", "percentunit", 4, "Of the blocks that engines asked for, those that were loaded.",
         [("", f"sum({rate('tiercel_load_blocks_total')}) / {ASKED}")]),
        ("Load, half within", "stat", "s", 4, "The median time from a load until its answer is final.",
         [("", quantile(0.5, "tiercel_load_latency_seconds"))]),
        ("Prefill saved a second", "stat", "s", 4, "What engines loaded at the speed at which they measured their own prefill, "
         "less the time that they waited for loads. Nothing where no engine has measured its prefill.",
         [("", f"sum({rate('tiercel_engine_loaded_bytes_total')} / ({at('tiercel_engine_prefill_bytes_per_second')} > 0)"
               f" - {rate('tiercel_engine_load_seconds_total')})")]),
        ("Engines", "stat", "short", 4, "Engines that are connected.", [("", f"sum({at('tiercel_engines')})")]),
        ("Errors in an hour", "stat", "short", 4, "Everything that went wrong, of memory and disk.",
         [("", " + ".join(f"sum(increase({at(metric)}[1h]))" for _, metric in ERRORS))]),
    ]),
    ("Cache", [
        ("Where blocks come from", "stacked", "percentunit", 12, "Of the blocks asked for. What is left to 100 % was computed.",
         [("{{tier}}", f"sum by (tier) ({rate('tiercel_load_blocks_total')}) / scalar({ASKED})")]),
        ("Occupancy", "lines", "percentunit", 12, "Bytes in use of each tier that there is.",
         [("{{instance}} {{tier}}", f"{at('tiercel_tier_used_bytes')} / ({at('tiercel_tier_capacity_bytes')} > 0)")]),
        ("Loaded", "lines", "Bps", 12, "Bytes that engines loaded, by the tier that had them.",
         [("{{tier}}", f"sum by (tier) ({rate('tiercel_load_bytes_total')})")]),
        ("Stored", "lines", "Bps", 12, "Bytes that were committed to each tier.",
         [("{{tier}}", f"sum by (tier) ({rate('tiercel_store_bytes_total')})")]),
        ("Time of a load", "lines", "s", 12, "From the load until its answer is final; engines wait for it.",
         percentiles("tiercel_load_latency_seconds")),
        ("How loads end", "lines", "ops", 12, "Only complete and miss are ordinary.",
         [("{{outcome}}", f"sum by (outcome) ({rate('tiercel_load_outcomes_total')})")]),
        ("What reserves answer", "lines", "ops", 12, "Busy: there was no room, the block is not stored.",
         [("{{outcome}}", f"sum by (outcome) ({rate('tiercel_reserve_outcomes_total')})")]),
        ("Errors", "bars", "short", 12, "By kind; each is a miss, or a block that is not kept. Nobody gets a wrong block.", counted(ERRORS)),
    ]),
    ("Engines", [
        ("KV pools", "lines", "percentunit", 12, "GPU memory for KV in use, as the engines report it. Above 95 % requests queue or are preempted.",
         [("{{engine}}", f"{at('tiercel_engine_kv_pool_used_bytes')} / "
                         f"({at('tiercel_engine_kv_pool_used_bytes')} + {at('tiercel_engine_kv_pool_free_bytes')})")]),
        ("KV pools, bytes", "lines", "bytes", 12, "Used and free, as the engines report them.",
         [("{{engine}} used", at("tiercel_engine_kv_pool_used_bytes")), ("{{engine}} free", at("tiercel_engine_kv_pool_free_bytes")),
          ("{{engine}} size", at("tiercel_engine_kv_pool_capacity_bytes"))]),
        ("Loaded by engine", "lines", "Bps", 12, "What each engine got from the cache.",
         [("{{engine}}", f"sum by (engine) ({rate('tiercel_engine_loaded_bytes_total')})")]),
        ("Stored by engine", "lines", "Bps", 12, "What each engine put into the cache.",
         [("{{engine}}", f"sum by (engine) ({rate('tiercel_engine_stored_bytes_total')})")]),
        ("Processes and modes", "lines", "short", 12, "Processes of each engine, and engines in each mode.",
         [("{{engine}}", at("tiercel_engine_members")), ("mode {{mode}}", f"sum by (mode) ({at('tiercel_engine_mode')})")]),
        ("Waiting for loads", "lines", "percentunit", 12, "Seconds a second that requests of each engine waited for loads; can be more than 1.",
         [("{{engine}}", f"sum by (engine) ({rate('tiercel_engine_load_seconds_total')})")]),
    ]),
    ("Service", [
        ("Up since", "lines", "s", 8, "Age of each service.", [("{{instance}}", f"time() - {at('tiercel_start_time_seconds')}")]),
        ("Health", "lines", "short", 8, "1: the state that /healthz answers.", [("{{instance}} {{state}}", at("tiercel_health"))]),
        ("HTTP connections", "lines", "short", 8, "Open, and refused in the interval.",
         [("{{listener}} open", f"sum by (listener) ({at('tiercel_http_connections')})"),
          ("live pages", f"sum({at('tiercel_http_streams')})"),
          ("{{listener}} refused", f"sum by (listener) (increase({at('tiercel_http_refused_connections_total')}[$__rate_interval]))"),
          ("live pages refused", f"sum(increase({at('tiercel_http_refused_streams_total')}[$__rate_interval]))"),
          ("requests refused", f"sum(increase({at('tiercel_http_refused_requests_total')}[$__rate_interval]))")]),
        ("Socket", "lines", "short", 8, "Connections of engines' processes: open, and what came and was refused in the interval.",
         [("open", f"sum({at('tiercel_socket_connections')})"),
          ("let in", f"sum(increase({at('tiercel_socket_accepted_connections_total')}[$__rate_interval]))"),
          ("taken up again", f"sum(increase({at('tiercel_socket_taken_up_connections_total')}[$__rate_interval]))"),
          ("refused", f"sum(increase({at('tiercel_socket_refused_connections_total')}[$__rate_interval]))"),
          ("protocol errors", f"sum(increase({at('tiercel_socket_protocol_errors_total')}[$__rate_interval]))")]),
        ("Arena", "lines", "short", 8, "1: the stage of the arena after a restart. Until it is serving nothing is stored; it waits for these processes of the earlier run.",
         [("{{instance}} {{stage}}", at("tiercel_arena_stage")), ("{{instance}} waits for", at("tiercel_arena_waiting_processes"))]),
        ("Departed", "lines", "short", 8, "Processes whose connection has ended and that may still use slots, and those slots.",
         [("processes", f"sum({at('tiercel_departed_members')})"), ("slots", f"sum({at('tiercel_departed_slots')})")]),
    ]),
])

HOST = ("Tiercel: host memory", [
    ("Room", [
        ("In use", "stat", "percentunit", 6, "Of the host tier.",
         [("", f"sum({at('tiercel_tier_used_bytes', TIER_HOST)}) / "
               f"sum({at('tiercel_tier_capacity_bytes', TIER_HOST)})")]),
        ("Found in host memory", "stat", "percentunit", 6, "Of the blocks that engines asked for.",
         [("", f"sum({rate('tiercel_load_blocks_total', TIER_HOST)}) / {ASKED}")]),
        ("In quarantine", "stat", "bytes", 6, "Given up while a process may still use it.",
         [("", f"sum({at('tiercel_tier_quarantined_bytes', TIER_HOST)})")]),
        ("Index in use", "stat", "percentunit", 6, "Entries of the index.",
         [("", f"sum({at('tiercel_index_entries')}) / sum({at('tiercel_index_capacity')})")]),
        ("Bytes", "lines", "bytes", 12, "Of the host tier.",
         [("{{instance}} in use", at("tiercel_tier_used_bytes", TIER_HOST)),
          ("{{instance}} size", at("tiercel_tier_capacity_bytes", TIER_HOST))]),
        ("Blocks", "lines", "short", 12, "Ready in host memory; entries of the index, and those of them that are kept for their children.",
         [("{{instance}} blocks", at("tiercel_tier_blocks", TIER_HOST)), ("{{instance}} entries", at("tiercel_index_entries")),
          ("{{instance}} stubs", at("tiercel_index_stubs")), ("{{instance}} index", at("tiercel_index_capacity"))]),
        ("Pins", "lines", "short", 12, "Logical pins forbid eviction, copy pins reuse of a slot while bytes move.",
         [("{{instance}} logical", at("tiercel_logical_pins")), ("{{instance}} copies", at("tiercel_copy_pins")),
          ("{{instance}} expired", f"increase({at('tiercel_expired_pins_total')}[$__rate_interval])")]),
        ("Quarantine", "lines", "short", 12, "Slots that wait for a process or a copy.",
         [("{{instance}}", at("tiercel_tier_quarantined_slots", TIER_HOST))]),
    ]),
    ("Traffic", [
        ("Both ways", "lines", "Bps", 12, "Bytes loaded from host memory and stored into it.",
         [("loaded", f"sum({rate('tiercel_load_bytes_total', TIER_HOST)})"),
          ("stored", f"sum({rate('tiercel_store_bytes_total', TIER_HOST)})"),
          ("evicted", f"sum({rate('tiercel_evicted_bytes_total', TIER_HOST)})")]),
        ("Blocks a second", "lines", "ops", 12, "Evicted, aborted (reserved, never committed), deleted.",
         [("loaded", f"sum({rate('tiercel_load_blocks_total', TIER_HOST)})"),
          ("stored", f"sum({rate('tiercel_store_blocks_total', TIER_HOST)})"),
          ("evicted", f"sum({rate('tiercel_evicted_blocks_total', TIER_HOST)})"),
          ("aborted", f"sum({rate('tiercel_aborted_blocks_total')})"), ("deleted", f"sum({rate('tiercel_dropped_blocks_total')})")]),
        ("Questions", "lines", "ops", 12, "Calls, and the blocks that they found or missed.",
         [("matches", f"sum({rate('tiercel_matches_total')})"), ("loads", f"sum({rate('tiercel_loads_total')})"),
          ("blocks matched", f"sum({rate('tiercel_matched_blocks_total')})"), ("blocks missed", f"sum({rate('tiercel_missed_blocks_total')})")]),
        ("Given up under load", "lines", "ops", 12, "Touches of the eviction policy that were shed: the order of eviction is coarser then.",
         [("touches", f"sum({rate('tiercel_touches_shed_total')})")]),
    ]),
    ("Times", [
        ("Match", "lines", "s", 8, "Asking what is there.", percentiles("tiercel_match_latency_seconds")),
        ("Reserve", "lines", "s", 8, "Finding room, evicting where it must.", percentiles("tiercel_reserve_latency_seconds")),
        ("Fill", "lines", "s", 8, "From the reserve of a block to its commit: the engine's copy.", percentiles("tiercel_fill_latency_seconds")),
    ]),
    ("Inside", [
        ("Extents", "lines", "short", 8, "What the arena is divided into; free ones hold no slots.",
         [("{{instance}} all", at("tiercel_extents")), ("{{instance}} free", at("tiercel_extents_free"))]),
        ("Hand-overs", "bars", "short", 8, "Extents given to another slot size, and what it took.",
         [("done", f"sum(increase({at('tiercel_handovers_total')}[$__rate_interval]))"),
          ("given up", f"sum(increase({at('tiercel_handovers_failed_total')}[$__rate_interval]))"),
          ("passed over, pinned", f"sum(increase({at('tiercel_handover_pinned_skips_total')}[$__rate_interval]))"),
          ("blocks moved", f"sum(increase({at('tiercel_moved_blocks_total')}[$__rate_interval]))")]),
        ("Sessions", "lines", "short", 8, "Open sessions and known namespaces.",
         [("{{instance}} sessions", at("tiercel_sessions")), ("{{instance}} namespaces", at("tiercel_namespaces"))]),
    ]),
])

DISK = ("Tiercel: local disk", [
    ("Room", [
        ("Directories in use", "stat", "short", 4, "That are on.", [("", f"sum({at('tiercel_disk_directories', STATE_ON)})")]),
        ("Directories out", "stat", "short", 4, "Off, read-only or refused; the live page says why.",
         [("", f"sum({at('tiercel_disk_directories', STATE_OUT)})")]),
        ("In use", "stat", "percentunit", 4, "Of the disk tier.",
         [("", f"sum({at('tiercel_tier_used_bytes', TIER_DISK)}) / "
               f"sum({at('tiercel_tier_capacity_bytes', TIER_DISK)})")]),
        ("Found on disk", "stat", "percentunit", 4, "Of the blocks that engines asked for.",
         [("", f"sum({rate('tiercel_load_blocks_total', TIER_DISK)}) / {ASKED}")]),
        ("Capacity written in a day", "stat", "percentunit", 4, "Wear: above 300 % look at disk.admission and disk.capacity.",
         [("", f"sum(increase({at('tiercel_store_bytes_total', TIER_DISK)}[1d])) / "
               f"sum({at('tiercel_tier_capacity_bytes', TIER_DISK)})")]),
        ("Stalled", "stat", "bytes", 4, "Of operations that are past their deadline and have not ended.",
         [("", f"sum({at('tiercel_disk_quarantined_bytes')})")]),
        ("Directories by state", "lines", "short", 12, "Anything but on and starting is a tier that does not serve.",
         [("{{instance}} {{state}}", at("tiercel_disk_directories"))]),
        ("Bytes", "lines", "bytes", 12, "Of the disk tier.",
         [("{{instance}} in use", at("tiercel_tier_used_bytes", TIER_DISK)),
          ("{{instance}} size", at("tiercel_tier_capacity_bytes", TIER_DISK))]),
    ]),
    ("Traffic", [
        ("Both ways", "lines", "Bps", 12, "Blocks read for engines and written for later.",
         [("read", f"sum({rate('tiercel_promoted_bytes_total')})"),
          ("written", f"sum({rate('tiercel_store_bytes_total', TIER_DISK)})"),
          ("evicted", f"sum({rate('tiercel_evicted_bytes_total', TIER_DISK)})")]),
        ("Operations", "lines", "iops", 12, "What the device was asked for; pages of the header table are among the writes.",
         [("reads", f"sum({rate('tiercel_disk_read_operations_total')})"), ("writes", f"sum({rate('tiercel_disk_write_operations_total')})"),
          ("header pages", f"sum({rate('tiercel_disk_header_pages_total')})")]),
        ("Waiting", "lines", "short", 12, "Blocks that wait to be written, jobs that wait for an operation, operations at the device.",
         [("{{instance}} to be written", at("tiercel_demotions_queued")), ("{{instance}} jobs", at("tiercel_disk_queued")),
          ("{{instance}} at the device", at("tiercel_disk_in_flight"))]),
        ("Blocks not written", "lines", "ops", 12, "Not admitted: by disk.admission. Refused: no room, or the block before is not there.",
         [("not admitted", f"sum({rate('tiercel_demotions_not_admitted_total')})"), ("refused", f"sum({rate('tiercel_demotions_refused_total')})"),
          ("failed", f"sum({rate('tiercel_demotions_failed_total')})"), ("promoted", f"sum({rate('tiercel_promoted_blocks_total')})"),
          ("written", f"sum({rate('tiercel_store_blocks_total', TIER_DISK)})")]),
        ("Time of a write", "lines", "s", 12, "From a block's turn until it is acknowledged.", percentiles("tiercel_demotion_latency_seconds")),
        ("Evicted", "lines", "ops", 12, "Blocks that had to go from the disk.",
         [("blocks", f"sum({rate('tiercel_evicted_blocks_total', TIER_DISK)})")]),
    ]),
    ("Trouble", [
        ("Errors", "bars", "short", 12, "By kind; each is a miss, or a block that is not kept.", counted(DISK_ERRORS)),
        ("Breaker", "bars", "short", 12, "Directories switched off, and attempts to find out whether they are back.",
         [("switched off", f"sum(increase({at('tiercel_disk_breaker_trips_total')}[$__rate_interval]))"),
          ("probes", f"sum(increase({at('tiercel_disk_probes_total')}[$__rate_interval]))")]),
        ("Deletes", "bars", "short", 12, "Written to the logs of the directories; late: answered before all had them.",
         [("in a log", f"sum(increase({at('tiercel_disk_tombstones_total')}[$__rate_interval]))"),
          ("late", f"sum(increase({at('tiercel_disk_late_deletes_total')}[$__rate_interval]))")]),
        ("At the last start", "lines", "short", 12, "What was found in the files.",
         [("{{instance}} blocks", at("tiercel_disk_recovered_blocks_total")), ("{{instance}} orphans", at("tiercel_disk_orphaned_blocks_total")),
          ("{{instance}} damaged headers", at("tiercel_disk_corrupt_headers")), ("{{instance}} old headers", at("tiercel_disk_stale_headers"))]),
    ]),
])

# Names in parentheses stand for several tenants, which have no limits together.
ONE_TENANT = 'tenant!~"[(].*"'


def by_tenant(expression):
    return f"sum by (tenant) ({expression})"


def of_tier(tier):
    """A row of panels: what tenants hold of a tier and do there."""
    used, cap, guarantee = (at(f"tiercel_tenant_{what}_bytes", f"{tier},{ONE_TENANT}") for what in ("used", "cap", "guarantee"))
    return [
        ("Held", "stacked", "bytes", 12, "Bytes in slots that are charged to each tenant; over all of them what the tier has in use.",
         [("{{tenant}}", by_tenant(at("tiercel_tenant_used_bytes", tier)))]),
        ("Limits", "lines", "bytes", 12, "What each tenant is guaranteed, where it is, and what it may hold.",
         [("{{tenant}} guaranteed", by_tenant(f"{guarantee} > 0")), ("{{tenant}} at most", by_tenant(cap))]),
        ("Of the cap", "lines", "percentunit", 12, "At 100 % a tenant makes room from its own blocks alone.",
         [("{{instance}} {{tenant}}", f"{used} / ({cap} > 0)")]),
        ("Of the guarantee", "lines", "percentunit", 12,
         "Below 100 % a tenant gets room from those above theirs as soon as it wants it; above, it may lose it to others.",
         [("{{instance}} {{tenant}}", f"{used} / ({guarantee} > 0)")]),
        ("Loaded", "lines", "Bps", 8, "Bytes of each tenant that loads gave out.",
         [("{{tenant}}", by_tenant(rate("tiercel_tenant_hit_bytes_total", tier)))]),
        ("Stored", "lines", "Bps", 8, "Bytes of each tenant that were stored.",
         [("{{tenant}}", by_tenant(rate("tiercel_tenant_stored_bytes_total", tier)))]),
        ("Evicted", "lines", "Bps", 8, "Bytes of each tenant that went for room.",
         [("{{tenant}}", by_tenant(rate("tiercel_tenant_evicted_bytes_total", tier)))]),
    ]


TENANTS = ("Tiercel: tenants", [
    ("Now", [
        ("Tenants", "stat", "short", 6, "That hold something or have settings; those beyond 64 of a service are one.",
         [("", f"count(sum by (tenant) ({at('tiercel_tenant_used_bytes')}))")]),
        ("At their cap", "stat", "short", 6, "In a tier of a service, with 95 % of it or more, where the cap is less than the tier.",
         [("", f"sum({at('tiercel_tenant_used_bytes', ONE_TENANT)} > bool 0.95 * ({at('tiercel_tenant_cap_bytes')}"
               f" < ignoring (tenant) group_left () {at('tiercel_tier_capacity_bytes')}))")]),
        ("Below their guarantee", "stat", "short", 6, "In a tier of a service; ordinary for a tenant that wants no more.",
         [("", f"sum({at('tiercel_tenant_used_bytes', ONE_TENANT)} < bool 0.9 * {at('tiercel_tenant_guarantee_bytes')})")]),
        ("Pinned", "stat", "bytes", 6, "By logical pins, in host memory.", [("", f"sum({at('tiercel_tenant_pinned_bytes')})")]),
    ]),
    ("Host memory", of_tier(TIER_HOST)),
    ("Local disk", of_tier(TIER_DISK)),
    ("Blocks and pins", [
        ("Blocks loaded", "lines", "ops", 8, "Of each tenant, by the tier that had them.",
         [("{{tenant}} {{tier}}", f"sum by (tenant, tier) ({rate('tiercel_tenant_hit_blocks_total')})")]),
        ("Blocks evicted", "lines", "ops", 8, "Of each tenant; from host memory a block may be on disk still.",
         [("{{tenant}} {{tier}}", f"sum by (tenant, tier) ({rate('tiercel_tenant_evicted_blocks_total')})")]),
        ("Pinned", "lines", "percentunit", 8, "By logical pins, of what each tenant may pin.",
         [("{{instance}} {{tenant}}", f"{at('tiercel_tenant_pinned_bytes', ONE_TENANT)} / ({at('tiercel_tenant_pinned_cap_bytes')} > 0)")]),
    ]),
])

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
HEIGHTS = {"stat": 4, "lines": 8, "stacked": 8, "bars": 8}


def panel(number, spec, x, y):
    title, kind, unit, width, says, queries = spec
    stat = kind == "stat"
    defaults = {"unit": unit, "min": 0}
    if unit == "percentunit" and kind == "stacked":
        defaults["max"] = 1
    if not stat:
        defaults["custom"] = {"drawStyle": "bars" if kind == "bars" else "line", "fillOpacity": 30 if kind != "lines" else 5,
                              "lineWidth": 1, "showPoints": "never",
                              "stacking": {"group": "A", "mode": "none" if kind == "lines" else "normal"}}
    options = ({"colorMode": "none", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}} if stat
               else {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}})
    return {
        "id": number, "type": "stat" if stat else "timeseries", "title": title, "description": says, "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHTS[kind]},
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
        "targets": [{"refId": chr(65 + i), "datasource": SOURCE, "expr": expression, "legendFormat": legend or "__auto"}
                    for i, (legend, expression) in enumerate(queries)],
    }


def variables():
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}, "hide": 0},
        {"name": "instance", "label": "Service", "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1, "multi": True,
         "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
         "definition": 'label_values(tiercel_build_info{job="tiercel"}, instance)',
         "query": {"query": 'label_values(tiercel_build_info{job="tiercel"}, instance)', "refId": "instance"}},
    ]


def dashboard(title, rows):
    panels, number, y = [], 1, 0
    for row_title, specs in rows:
        panels.append({"id": number, "type": "row", "title": row_title, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        number, y, x, tallest = number + 1, y + 1, 0, 0
        for spec in specs:
            if x + spec[3] > 24:
                x, y, tallest = 0, y + tallest, 0
            panels.append(panel(number, spec, x, y))
            number, x, tallest = number + 1, x + spec[3], max(tallest, HEIGHTS[spec[1]])
        y += tallest
    return {
        "id": None, "uid": None, "title": title, "tags": ["tiercel"], "schemaVersion": SCHEMA, "version": 1, "editable": True,
        "timezone": "browser", "refresh": "30s", "time": {"from": "now-3h", "to": "now"}, "graphTooltip": 1,
        "templating": {"list": variables()}, "annotations": {"list": []},
        "links": [{"title": "Tiercel", "type": "dashboards", "tags": ["tiercel"], "asDropdown": False, "includeVars": True,
                   "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": ""}],
        "panels": panels,
    }


def main(folder):
    for name, (title, rows) in {"overview": OVERVIEW, "host": HOST, "disk": DISK, "tenants": TENANTS}.items():
        (folder / f"{name}.json").write_text(json.dumps(dashboard(title, rows), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
