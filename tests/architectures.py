"""Small models of every architecture that transformers can generate with: random weights, the shape of the real ones."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

EVERY = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
# What a config calls its sizes, and how small they may be: heads of 16, so that rotations of any share of one work.
_SIZES = {
    "hidden_size": 64, "d_model": 64, "n_embd": 64, "dim": 64, "embed_dim": 64, "model_dim": 64, "word_embed_proj_dim": 64,
    "intermediate_size": 96, "n_inner": 96, "d_ff": 96, "ffn_dim": 96, "ffn_hidden_size": 96, "decoder_ffn_dim": 96,
    "encoder_ffn_dim": 96, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 48, "expert_ffn_hidden_size": 48,
    "shared_intermediate_size": 96, "hidden_size_per_layer_input": 16,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "num_key_value_heads": 2, "num_kv_heads": 2, "head_dim": 16, "attention_head_size": 16, "d_kv": 16,
    "num_hidden_layers": 4, "n_layer": 4, "n_layers": 4, "num_layers": 4, "decoder_layers": 4, "encoder_layers": 2,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "moe_k": 2, "moe_topk": 2,
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "qk_head_dim": 32,
    "state_size": 8, "mamba_d_state": 8, "ssm_state_size": 8, "mamba_num_heads": 8, "mamba_n_heads": 8, "mamba_head_dim": 16,
    "mamba_d_head": 16, "mamba_d_ssm": 128, "n_groups": 1, "mamba_n_groups": 1, "chunk_size": 8, "mamba_chunk_size": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "lru_width": 64, "attention_window_size": 16, "sliding_window": 9, "window_size": 9, "attention_chunk_size": 32,
    "max_position_embeddings": 512, "n_positions": 512, "max_seq_len": 512, "max_sequence_length": 512, "context_length": 512,
    "n_ctx": 512, "block_size": 8, "vocab_size_per_layer_input": 257,
    "num_kv_shared_layers": 0, "time_step_rank": 4, "mamba_dt_rank": 4, "max_target_positions": 512,
}  # fmt: skip
# Of some kinds a few sizes hang together in a way of their own.
_OWN: dict[str, dict[str, Any]] = {
    "gptj": {"rotary_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "deepseek_v3": {"num_key_value_heads": 4},
    "mamba2": {"num_heads": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
}


def config_of(kind: str, vocabulary: int, **more: Any) -> Any:
    """A small config of a model type, as its default is but for its sizes."""
    kind_of_config = transformers.CONFIG_MAPPING[kind]
    usual = kind_of_config()
    text = usual.get_text_config()
    known = set(text.to_dict()) | set(getattr(type(text), "attribute_map", {}))
    sizes = {name: size for name, size in _SIZES.items() if name in known and getattr(text, name, None) is not None}
    sizes |= {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    sizes |= _OWN.get(kind, {}) | more
    if text is usual:
        return kind_of_config(**sizes)
    place = next(name for name, value in vars(usual).items() if value is text)
    return kind_of_config(**{place: {**sizes}})


def model_of(kind: str, vocabulary: int, **more: Any) -> Any:
    """A model of the type, with weights drawn from a fixed seed and wide enough that no two tokens tie."""
    torch.manual_seed(1)
    config = config_of(kind, vocabulary, **more)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def save(kind: str, tokenizer: Any, folder: Path, **more: Any) -> Path:
    """A model folder of the type, with a tokenizer beside it."""
    model_of(kind, len(tokenizer), **more).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
