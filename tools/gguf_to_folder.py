#!/usr/bin/env python3
"""gguf_to_folder.py FILE FOLDER: a Llama model of a GGUF file, dequantised to bfloat16, as config.json, model.safetensors
and tokens.json (the text of each token, as the file has it).

GGUF keeps the rows of Q and K in the order of llama.cpp's rotary embedding, pairs side by side; here they get the order
of halves again that Hugging Face's Llama has."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file

LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def halves(weight: np.ndarray, heads: int) -> np.ndarray:
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def name_of(gguf_name: str) -> str:
    words = gguf_name.split(".")
    if words[0] == "blk":
        return f"model.layers.{words[1]}.{LAYER_NAMES[words[2]]}.weight"
    return f"{TOP_NAMES[words[0]]}.weight"


def main() -> None:
    source, folder = sys.argv[1], Path(sys.argv[2])
    reader = GGUFReader(source)

    def field(key: str):
        return reader.fields[key].contents()

    if field("general.architecture") != "llama":
        sys.exit(f"{source}: general.architecture is {field('general.architecture')!r}; only llama is understood")
    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            weight = halves(weight, heads if ".attn_q." in tensor.name else kv_heads)
        tensors[name_of(tensor.name)] = torch.from_numpy(np.array(weight)).to(torch.bfloat16)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": field("llama.embedding_length"), "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"), "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "max_position_embeddings": field("llama.context_length"), "vocab_size": field("llama.vocab_size"),
        "rms_norm_eps": round(field("llama.attention.layer_norm_rms_epsilon"), 9), "rope_theta": field("llama.rope.freq_base"),
        "tie_word_embeddings": "lm_head.weight" not in tensors, "attention_bias": False, "mlp_bias": False,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"), "eos_token_id": field("tokenizer.ggml.eos_token_id"),
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "tokens.json").write_text(json.dumps(field("tokenizer.ggml.tokens")))


if __name__ == "__main__":
    main()
