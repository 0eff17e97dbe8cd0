"""Small models of every architecture that transformers can generate with: random weights, the shape of the real ones."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

EVERY = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
# Loaded as causal models, and look at the tokens that come after unless their config says is_decoder.
ENCODERS = {
    "bert", "bert-generation", "big_bird", "camembert", "cpmant", "data2vec-text", "electra", "ernie", "megatron-bert",
    "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet",
}  # fmt: skip
# What answers, and is refused by name when it is to be trained: rows must be of a multiple of its chunks.
UNTRAINED = {"reformer"}
# What transformers itself makes no model of that takes text alone.
UNBUILT = {
    "emu3": "its config is of the whole, its class for text wants that of the text",
    "gemma3n": "wants packages for images",
    "gemma4_assistant": "drafts for another model, whose states it reads",
    "gemma4_unified_assistant": "drafts for another model, whose states it reads",
    "mllama": "its config is of the whole, its class for text wants that of the text",
    "musicgen": "writes sound",
    "musicgen_melody": "writes sound",
}
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
    "linear_head_dim": 16, "linear_num_heads": 4, "num_experts_per_token": 2, "index_n_heads": 2, "index_head_dim": 16,
    "index_topk": 16, "shared_experts_intermediate_size": 48, "router_hidden_size": 16, "model_max_length": 512,
    "num_blocks": 2, "adapter_in_dim": 64, "adapter_out_dim": 64, "adapter_input_size": 64, "hidden_size_global": 64,
    "patch_size": 4, "image_size": 16, "encoder_hash_byte_group_vocab": 64,
}  # fmt: skip
# Of some kinds a few sizes hang together in a way of their own.
_OWN: dict[str, dict[str, Any]] = {
    "gptj": {"rotary_dim": 8},
    "codegen": {"rotary_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16, "num_experts": 4, "moe_topk": 2, "moe_intermediate_size": 48},
    "ministral": {"head_dim": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10_000.0},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "zamba": {
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "num_key_value_heads": 4,
        "num_hidden_layers": 6,
        "layers_block_type": [*["linear_attention"] * 2, "hybrid"] * 2,
    },
    "zamba2": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "hybrid_layer_ids": [1, 3],
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "num_key_value_heads": 4,
        "mamba_headdim": 16,
        "n_mamba_heads": 8,
        "kv_channels": 16,
        "num_query_groups": 4,
    },
    "dots3_note_text": {"head_dim": 32},
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [16, 32],
        "axial_pos_embds_dim": [16, 48],
        "attn_layers": ["local", "lsh"],
        "local_attn_chunk_length": 16,
        "lsh_attn_chunk_length": 16,
        "num_buckets": 4,
        "feed_forward_size": 96,
        "num_hidden_layers": 2,
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
    },
    "xmod": {"default_language": "en_XX", "is_decoder": True},
    "cohere_compass_text": {
        "rope_parameters": {
            name: {"rope_type": "default", "rope_theta": 10_000.0} for name in ("full_attention", "sliding_attention")
        }
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "mamba2": {"num_heads": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
}


def config_of(kind: str, vocabulary: int, **more: Any) -> Any:
    """A small config of a model type, as its default is but for its sizes."""
    kind_of_config = transformers.CONFIG_MAPPING[kind]
    usual = kind_of_config()
    words = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    text = usual.get_text_config()
    if text is usual:
        return kind_of_config(**(_small(usual) | words | _OWN.get(kind, {}) | more))
    place = next(name for name, value in vars(usual).items() if value is text)
    parts = _small(usual)
    parts[place] = parts[place] | words | _OWN.get(text.model_type, {}) | more
    return kind_of_config(**parts)


def _small(usual: Any) -> dict[str, Any]:
    """What makes a config, and every one within it, a small one."""
    sizes: dict[str, Any] = {name: size for name, size in _SIZES.items() if _given(usual, name)}
    if "kv_lora_rank" in sizes and "num_key_value_heads" in sizes:
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]  # every head has keys of its own
    if vars(usual).get("_heterogeneity_spec"):
        sizes["per_layer_config"] = {}  # every layer alike
    for name, part in vars(usual).items():
        if isinstance(part, transformers.PreTrainedConfig):
            sizes[name] = _small(part)
    return sizes


def _given(usual: Any, name: str) -> bool:
    own = type(usual).attribute_map.get(name, name)
    return vars(usual).get(own) is not None


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
