"""Stand-ins for the tests: an OpenAI-compatible server without a model, and a program in the shape of tiercel-llama around it."""
