"""Multi-turn chat load against an OpenAI-compatible server, and the demo that runs it without and with Tiercel."""
