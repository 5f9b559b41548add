"""Tiercel as a KV connector of vLLM: KV of prompts in host RAM, on disk, and shared by the engines of a machine.

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "TiercelConnector",
        "kv_connector_module_path": "tiercel.vllm", "kv_role": "kv_both"}'

docs/vllm.md says what works and what is refused. The modules `geometry`, `keys` and `settings` need no vLLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connector import TiercelConnector

__all__ = ["TiercelConnector"]


def __getattr__(name: str) -> Any:
    if name == "TiercelConnector":
        from .connector import TiercelConnector

        return TiercelConnector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
