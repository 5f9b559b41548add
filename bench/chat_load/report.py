"""The result of the demo as one self-contained page and as JSON. Reads a DemoResult and nothing else; both files say the same."""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from chat_load import metrics
from chat_load.conversation import LoadShape
from chat_load.equality import Equality
from chat_load.latency import Latency
from chat_load.plot import Series, ttft_plot
from chat_load.runner import RunResult, differing_answers
from chat_load.second_act import Restart, in_one_round
from chat_load.sizing import Speed
from chat_load.terminal import seconds, size


@dataclass
class ServerRun:
    """One pass of the load over one fresh server."""

    result: RunResult
    command: str
    peak_rss_bytes: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def bytes_moved(self, direction: str) -> float | None:
        """Between the engine and Tiercel, 'kept' or 'restored'; None where the server does not count it."""
        return metrics.total(self.metrics, "tiercel_llama_moved_bytes_total", f'direction="{direction}"')


@dataclass
class DemoResult:
    shape: LoadShape
    context_tokens: int  # KV cells of the engine
    speed: Speed
    machine: dict[str, str | int]
    model: str
    without: ServerRun
    with_tiercel: ServerRun
    equality: Equality | None = None
    equality_note: str = "not run"
    rounds_cut: int = 0  # of those asked for; shape.rounds is what ran
    wall_s: float = 0.0
    restart: Restart | None = None
    restart_note: str = "not run"

    @property
    def differing(self) -> int:
        return differing_answers(self.without.result, self.with_tiercel.result)

    @property
    def steady(self) -> bool:
        """Did the machine compute first visits about as fast in both runs? If not, the ratios say as much about the machine as about Tiercel."""
        quotient = _quotient(self.without.result.ttft_first.p50, self.with_tiercel.result.ttft_first.p50)
        return quotient is not None and 1 / STEADY_WITHIN <= quotient <= STEADY_WITHIN


# On first visits there is nothing to reuse, so both runs do the same work there: further apart than this, the machine itself changed its speed.
STEADY_WITHIN = 1.5

TABLE_HEADER = ("", "without", "with", "")


def table_rows(demo: DemoResult) -> list[tuple[str, str, str, str]]:
    without, with_tiercel = demo.without.result, demo.with_tiercel.result
    rows = []
    for label, a, b in (("first token", without.ttft, with_tiercel.ttft),
                        ("  users returning", without.ttft_returning, with_tiercel.ttft_returning),
                        ("  first visits", without.ttft_first, with_tiercel.ttft_first)):
        for name in ("p50", "p95"):
            rows.append((f"{label} {name}", seconds(getattr(a, name)), seconds(getattr(b, name)), _ratio(getattr(a, name), getattr(b, name))))
    share = with_tiercel.computed_tokens / without.computed_tokens if without.computed_tokens else 0.0
    rows.append(("prompt tokens computed", f"{without.computed_tokens:,}", f"{with_tiercel.computed_tokens:,}", f"{share:.0%}"))
    rows.append(("prompt tokens reused", f"{without.reused_tokens:,}", f"{with_tiercel.reused_tokens:,}", ""))
    for label, direction in (("bytes kept", "kept"), ("bytes restored", "restored")):
        rows.append((label, "-", _bytes(demo.with_tiercel.bytes_moved(direction)), ""))
    rows.append(("wall time", seconds(without.wall_s), seconds(with_tiercel.wall_s), _ratio(without.wall_s, with_tiercel.wall_s, "shorter", "longer")))
    rows.append(("server memory, peak", size(demo.without.peak_rss_bytes), size(demo.with_tiercel.peak_rss_bytes), ""))
    return rows


def remarks(demo: DemoResult) -> list[tuple[str, str]]:
    """What the table has no columns for: (label, sentence)."""
    if demo.equality:
        found = demo.equality
        verdict = "token for token" if found.holds else "NOT EQUAL" if found.equal < found.turns else "NOTHING WAS RESTORED"
        equality = (f"{verdict} ({found.equal} of {found.turns} turns, {found.tokens:,} tokens; {found.restored_tokens:,} prompt tokens restored; "
                    "one slot, same split)")
    else:
        equality = demo.equality_note
    total = len(demo.with_tiercel.result.turns)
    differ = f"{demo.differing} of {total} between the two loaded runs (batching alone changes tokens; reported only)"
    said = [("restored = recomputed", equality), ("answers that differ", differ)]
    if not demo.steady:
        said.append(("MACHINE NOT STEADY", "first visits, where nothing can be reused, differ too much between the runs: do not rely on the ratios, run it again"))
    if demo.rounds_cut:
        said.append(("rounds left out", f"{demo.rounds_cut} of each run: the machine became slower than measured, and the time budget goes first"))
    if not demo.restart:
        said.append(("kill -9 and start again", demo.restart_note))
    return said


RESTART_HEADER = ("after kill -9", "before", "cold start", "warm start", "")


def restart_rows(restart: Restart) -> list[tuple[str, str, str, str, str]]:
    """Before the kill, after a start with an empty disk, after a start on the disk that the kill left."""
    before, cold, warm = restart.killed.before, restart.cold.result, restart.warm.result
    rows = []
    for name in ("p50", "p95"):
        figures = [getattr(one.ttft, name) for one in (before, cold, warm)]
        note = _ratio(figures[1], figures[2])
        rows.append((f"first token {name}", *(seconds(figure) for figure in figures), f"{note} than cold" if note else ""))
    rows.append(("users that come back", *(str(len(one.turns)) for one in (before, cold, warm)), "one turn each"))
    rows.append(("prompt tokens reused", *(_share(one.reused_tokens, one.prompt_tokens) for one in (before, cold, warm)), ""))
    rows.append(("blocks read from disk", "-", *(f"{one.count('tiercel_promoted_blocks_total'):,}" for one in (restart.cold, restart.warm)), ""))
    rows.append(("ready after", "-", seconds(restart.cold.ready_s), seconds(restart.warm.ready_s), "from exec; the model is loaded in it"))
    return rows


def restart_sentence(restart: Restart) -> str:
    known = restart.killed.disk_blocks
    later = restart.found_blocks - known  # written between the last look and the kill
    more = f" (and {later:,} written in the last moment)" if later > 0 else ""
    return (f"Then the server was killed (kill -9) and started again: first token p50 {seconds(restart.warm.result.ttft.p50)}, "
            f"{min(restart.found_blocks, known):,} of {known:,} blocks found on disk{more}, {restart.failed_verification:,} failed verification.")


def as_json(demo: DemoResult) -> dict[str, Any]:
    def run(one: ServerRun) -> dict[str, Any]:
        return {**one.result.as_json(), "command": one.command, "peak_rss_bytes": one.peak_rss_bytes,
                "bytes_kept": one.bytes_moved("kept"), "bytes_restored": one.bytes_moved("restored"), "metrics": one.metrics}

    return {
        "model": demo.model,
        "machine": demo.machine,
        "load": {**asdict(demo.shape), "context_tokens": demo.context_tokens},
        "speed": asdict(demo.speed),
        "without": run(demo.without),
        "with": run(demo.with_tiercel),
        "ratio": {"ttft_p50": _quotient(demo.without.result.ttft.p50, demo.with_tiercel.result.ttft.p50),
                  "ttft_p95": _quotient(demo.without.result.ttft.p95, demo.with_tiercel.result.ttft.p95)},
        "machine_steady": demo.steady,
        "answers_differ": demo.differing,
        "equality": demo.equality.as_json() if demo.equality else None,
        "equality_note": None if demo.equality else demo.equality_note,
        "restart": demo.restart.as_json() if demo.restart else None,
        "restart_note": None if demo.restart else demo.restart_note,
        "rounds_cut": demo.rounds_cut,
        "wall_s": demo.wall_s,
    }


def write(demo: DemoResult, directory: Path) -> tuple[Path, Path]:
    """report.html and report.json in directory."""
    directory.mkdir(parents=True, exist_ok=True)
    page, data = directory / "report.html", directory / "report.json"
    data.write_text(json.dumps(as_json(demo), indent=2) + "\n", encoding="utf-8")
    page.write_text(_page(demo), encoding="utf-8")
    return page, data


def _page(demo: DemoResult) -> str:
    headline = _headline(demo.without.result.ttft, demo.with_tiercel.result.ttft)
    shape = demo.shape
    lead = (f"{shape.users} users talk about one document each, {shape.rounds} rounds, {shape.slots} at a time. The engine's KV memory "
            f"({demo.context_tokens:,} tokens) holds the conversations of {shape.resident_users} of them: when a user returns, theirs has been pushed out.")
    plot = ttft_plot([Series("without Tiercel", demo.without.result), Series("with Tiercel", demo.with_tiercel.result)], shape.users, shape.rounds)
    rows = "".join(f"<tr><th>{escape(label.strip())}</th><td>{escape(a)}</td><td>{escape(b)}</td><td>{escape(note)}</td></tr>"
                   for label, a, b, note in table_rows(demo))
    said = "".join(f"<li><b>{escape(label)}</b>: {escape(remark)}</li>" for label, remark in remarks(demo))
    settings = "".join(f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in _settings(demo).items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tiercel demo: chats that come back from RAM</title><style>{_STYLE}</style></head><body><main>
<h1>Chats that come back from RAM</h1>
<p class="headline">{escape(headline)}</p>
<p>{escape(lead)}</p>
<h2>Time to first token, every turn</h2>
<figure>{plot}</figure>
<h2>Result</h2>
<div class="scroll"><table class="figures"><tr><td></td><th>without</th><th>with</th><td></td></tr>{rows}</table></div>
<ul>{said}</ul>
{_restart_part(demo.restart, shape) if demo.restart else ""}
<h2>Settings and machine</h2>
<div class="scroll"><table class="settings">{settings}</table></div>
</main></body></html>
"""


def _restart_part(restart: Restart, shape: LoadShape) -> str:
    series = [Series("before the kill", restart.killed.before), Series("after a cold start", restart.cold.result),
              Series("after the warm start", restart.warm.result)]
    plot = ttft_plot([Series(one.name, in_one_round(one.result)) for one in series], shape.users, 1, [("each user's next turn", "before: the last turn")])
    head, *columns, _ = RESTART_HEADER
    rows = "".join(f"<tr><th>{escape(row[0])}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>" for row in restart_rows(restart))
    return f"""<h2>Killed in mid-load and started again</h2>
<p>{escape(restart_sentence(restart))}</p>
<figure>{plot}</figure>
<div class="scroll"><table class="figures"><tr><td>{escape(head)}</td>{"".join(f"<th>{escape(column)}</th>" for column in columns)}<td></td></tr>{rows}</table></div>"""


def _settings(demo: DemoResult) -> dict[str, str]:
    shape, machine = demo.shape, demo.machine
    return {
        "model": demo.model,
        "machine": f"{machine['processor']}, {machine['cores']} cores, {size(float(machine['memory_bytes']))} memory, Linux {machine['kernel']}",
        "prefill speed, measured first": f"{demo.speed.prefill_tokens_per_s:.0f} tokens/s; one answer token {demo.speed.decode_s_per_token * 1000:.0f} ms",
        "load": f"{shape.users} users, {shape.rounds} rounds, history up to {shape.history_tokens} tokens, answers of up to {shape.answer_tokens} tokens, "
                f"greedy, seed {shape.seed}, closed loop with {shape.slots} in flight",
        "without": demo.without.command,
        "with": demo.with_tiercel.command,
        **({"after the kill": f"{demo.restart.cold.command}; {demo.restart.warm.command}"} if demo.restart else {}),
        "time to first token": "measured by the client, from before the connection to the first piece of text; percentiles by linear interpolation",
        "whole demo": seconds(demo.wall_s),
    }


def _headline(without: Latency, with_tiercel: Latency) -> str:
    return (f"The first token of an answer came after {seconds(with_tiercel.p50)} instead of {seconds(without.p50)} (median), "
            f"{_ratio(without.p50, with_tiercel.p50)}.")


def _quotient(without: float | None, with_tiercel: float | None) -> float | None:
    return without / with_tiercel if without and with_tiercel else None


def _ratio(without: float | None, with_tiercel: float | None, less: str = "sooner", more: str = "later") -> str:
    quotient = _quotient(without, with_tiercel)
    if quotient is None:
        return ""
    return f"{quotient:.1f}x {less}" if quotient >= 1 else f"{1 / quotient:.1f}x {more}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _bytes(value: float | None) -> str:
    return "-" if value is None else size(value)


_STYLE = """
body{margin:0;background:#fafafa;color:#222;font:16px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:960px;margin:0 auto;padding:32px 20px 64px}
h1{margin:0 0 4px;font-size:28px}h2{margin:36px 0 10px;font-size:19px}
.headline{font-size:19px;color:#1767b0;margin:0 0 12px}
figure{margin:0;background:#fff;border:1px solid #e2e2e2;border-radius:8px;padding:12px;overflow-x:auto}svg{display:block;width:100%;min-width:680px;height:auto}
.scroll{overflow-x:auto}table{border-collapse:collapse;background:#fff}th,td{padding:6px 14px;border-bottom:1px solid #e8e8e8;text-align:left;vertical-align:top}
th{font-weight:500}.figures td{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.figures tr:first-child th{text-align:right}
.settings{font-size:14px}.settings th{white-space:nowrap;color:#555}.settings td{overflow-wrap:anywhere}
ul{padding-left:20px}
"""
