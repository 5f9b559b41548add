"""Server-sent events, as far as OpenAI streams use them: the data of each event, in order."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

DONE = "[DONE]"


def event_data(lines: Iterable[bytes]) -> Iterator[str]:
    """The data of every complete event. An event that the stream's end cuts off is not given out, as the SSE specification says."""
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
        if line == "":
            if data:
                yield "\n".join(data)
            data = []
            continue
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
