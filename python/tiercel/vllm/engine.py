"""What is read of vLLM's configuration: whether its KV can be kept at all, what names its bytes, how a rank's tensors lie."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vllm
from vllm.v1.kv_cache_interface import FullAttentionSpec

from .geometry import RankGeometry, UnsupportedLayoutError, find_axes, logical_axes, tensor_geometry

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def check_supported(config: VllmConfig, kv_cache: KVCacheConfig) -> None:
    """ValueError names what this connector does not do, and the setting that has it."""
    parallel, speculative = config.parallel_config, config.speculative_config
    for name in ("decode_context_parallel_size", "prefill_context_parallel_size", "pipeline_parallel_size"):
        size = getattr(parallel, name, 1)
        if size > 1:
            raise ValueError(f"{name}: {size} is not supported by TiercelConnector; it must be 1")
    if getattr(config.cache_config, "calculate_kv_scales", False):
        raise ValueError("calculate_kv_scales: the scales of KV then differ from start to start, and blocks cannot be shared; "
                         "use a checkpoint that has them")
    if speculative is not None and speculative.method not in ("ngram", "suffix"):
        raise ValueError(f"speculative_config.method: {speculative.method!r} has KV of its own beside the model's, which "
                         "TiercelConnector does not keep yet; ngram works")
    groups = kv_cache.kv_cache_groups
    if len(groups) != 1:
        kinds = ", ".join(f"{type(g.kv_cache_spec).__name__} ({len(g.layer_names)} layers)" for g in groups)
        raise ValueError(f"the model's KV cache has {len(groups)} groups ({kinds}); TiercelConnector keeps one group of full attention")
    spec = groups[0].kv_cache_spec
    if type(spec) is not FullAttentionSpec:
        raise ValueError(f"the model's KV cache is a {type(spec).__name__}; TiercelConnector keeps FullAttentionSpec")


def model_folder(config: VllmConfig) -> Path | None:
    """Where the files of the model are, if they are on this machine."""
    name = config.model_config.model
    if os.path.exists(name):
        return Path(name)
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=config.model_config.revision, local_files_only=True))
    except Exception:  # whatever the hub's client says: it is not here
        return None


def weight_files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    return sorted(file for file in folder.iterdir() if file.suffix in _WEIGHT_SUFFIXES)


def properties(config: VllmConfig, packing: str, page_tokens: int) -> dict[str, str]:
    """All that changes the bytes of KV besides weights, layout and tokens."""
    model = config.model_config
    effective = json.loads(model.hf_config.to_json_string(use_diff=False))
    for name in ("transformers_version", "_name_or_path", "architectures"):
        effective.pop(name, None)
    text = json.dumps(effective, sort_keys=True)
    return {
        "engine": "vllm", "version": vllm.__version__, "packing": packing, "page_tokens": str(page_tokens),
        "config": hashlib.sha256(text.encode()).hexdigest(), "dtype": str(model.dtype), "quantization": str(model.quantization),
        "architectures": ",".join(model.architectures), "hf_overrides": str(model.hf_overrides),
    }


def kv_dtype(config: VllmConfig) -> str:
    name = config.cache_config.cache_dtype
    return str(config.model_config.dtype).removeprefix("torch.") if name == "auto" else str(name)


def rank_geometry(config: VllmConfig, kv_cache: KVCacheConfig, tensors: Mapping[str, torch.Tensor], rank: int) -> RankGeometry:
    """Of the tensors that a worker registered."""
    spec = kv_cache.kv_cache_groups[0].kv_cache_spec
    described, packings, seen = [], set(), set()
    for name, tensor in tensors.items():
        if not hasattr(tensor, "data_ptr"):
            raise UnsupportedLayoutError(f"{name}: its KV is a {type(tensor).__name__}; it must be one tensor")
        if tensor.data_ptr() in seen:  # a layer that uses another one's KV
            continue
        seen.add(tensor.data_ptr())
        layer = config.compilation_config.static_forward_context[name]
        backend = layer.get_attn_backend()
        packings.add(_packing(backend, layer))
        axes = _axes(config, spec, backend, tensor.shape)
        described.append(tensor_geometry(name, axes, tensor.shape, tensor.stride(), tensor.element_size(), tensor.data_ptr(),
                                         tensor.untyped_storage().nbytes() - tensor.storage_offset() * tensor.element_size()))
    if len(packings) != 1:
        raise UnsupportedLayoutError(f"the layers pack KV in different ways ({', '.join(sorted(packings))}); it must be one")
    geometry = RankGeometry(rank, config.parallel_config.tensor_parallel_size, config.model_config.get_total_num_kv_heads(),
                            spec.block_size, packings.pop(), tuple(described))
    for tensor in described:
        pages = kv_cache.num_blocks * (spec.block_size // geometry.page_tokens)
        if tensor.size("PAGE") != pages:
            raise UnsupportedLayoutError(f"{tensor.name}: has {tensor.size('PAGE')} pages; {kv_cache.num_blocks} blocks of {spec.block_size} tokens "
                                         f"in pages of {geometry.page_tokens} are {pages}")
    return geometry


def _axes(config: VllmConfig, spec: FullAttentionSpec, backend: Any, shape: Sequence[int]) -> dict[int, str]:
    if not hasattr(backend, "get_kv_cache_shape"):  # vLLM 0.32
        return logical_axes(shape, spec.num_kv_heads)

    def shape_of(blocks: int, tokens: int, heads: int, size: int) -> tuple[int, ...]:
        return backend.get_kv_cache_shape(blocks, tokens, heads, size, cache_dtype_str=config.cache_config.cache_dtype)

    return find_axes(shape_of, shape, shape[0], spec.block_size, spec.num_kv_heads, spec.head_size)


def _packing(backend: Any, layer: Any) -> str:
    """The attention backend and, where it has several, the variant of its kernels: each may order the bytes of a head in
    its own way."""
    variant = getattr(getattr(layer, "impl", None), "isa", None)
    return backend.get_name() if variant is None else f"{backend.get_name()}/{variant}"
