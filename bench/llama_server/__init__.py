"""The chat load on tiercel-llama beside llama.cpp's own server."""
