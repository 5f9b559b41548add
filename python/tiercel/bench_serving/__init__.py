"""`tiercel bench serving`: a load client for servers with OpenAI's API, `python -m tiercel.bench_serving`.

Users who hold conversations, or the requests of a recorded workload, over HTTP with streamed answers; what is measured is what a
client sees. docs/bench_serving.md says what each flag and figure means.

Who does what: `arguments` reads the flags; `scenarios` and `trace` say which turns there are and when; `words` and `calibration`
make text of so many tokens; `load` sends it through `openai_client` on `http_exchange`; `measures` makes figures of the outcomes,
`comparison` of two runs; `report`, `plot` and `progress` show them.
"""
