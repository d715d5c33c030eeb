"""A tiny random model of any causal architecture that transformers registers, from its config.

Each size of a configuration that has one of the names below is made small, in its parts too; what
an architecture wants otherwise is in `ODD`.
"""

from __future__ import annotations

import contextlib
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.tiny_models import VOCAB

LAYERS = 4
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "n_embd": 32,
    "d_model": 32,
    "dim": 32,
    "lru_width": 32,
    "embedding_size": 32,
    "emb_dim": 32,
    "embed_dim": 32,
    "word_embed_proj_dim": 32,
    "output_hidden_size": 32,
    "projection_dim": 32,
    "vision_output_dim": 32,
    "projector_hidden_size": 32,
    "reducer_hidden_size": 32,
    "attention_hidden_size": 32,
    "hidden_dim": 32,
    "encoder_hidden_size": 32,
    "text_hidden_size": 32,
    "adapter_hidden_size": 32,
    "intermediate_size": 64,
    "ffn_dim": 64,
    "n_inner": 64,
    "d_ff": 64,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "ffn_hidden_size": 64,
    "dff": 64,
    "dim_ff": 64,
    "shared_intermediate_size": 64,
    "mlp_dim": 64,
    "moe_shared_expert_intermediate_size": 64,
    "feed_forward_size": 64,
    "intermediate_dim": 64,
    "expert_ffn_hidden_size": 64,
    "ffn_size": 64,
    "intermediate_size_mlp": 64,
    "dense_intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "n_layer": LAYERS,
    "n_layers": LAYERS,
    "num_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_layers": LAYERS,
    "depth": LAYERS,
    "num_encoder_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "encoder_num_hidden_layers": LAYERS,
    "num_blocks": LAYERS,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "attention_heads": 4,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "mamba_n_heads": 4,
    "mamba_num_heads": 4,
    "linear_num_value_heads": 4,
    "num_attention_heads_per_layer": 4,
    "index_n_heads": 4,
    "moe_num_experts": 4,
    "attention_num_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "linear_num_key_heads": 2,
    "moe_k": 2,
    "moe_topk": 2,
    "num_kv_heads": 2,
    "num_experts_per_token": 2,
    "top_k_experts": 2,
    "num_selected_experts": 2,
    "head_dim": 8,
    "v_head_dim": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "attention_head_dim": 8,
    "global_head_dim": 8,
    "state_size": 8,
    "mamba_d_state": 8,
    "ssm_state_size": 8,
    "kv_channels": 8,
    "index_head_dim": 8,
    "swa_head_dim": 8,
    "rotary_dim": 8,
    "qkv_head_dim": 8,
    "mamba_head_dim": 8,
    "num_image_tokens": 8,
    "image_seq_length": 8,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "mamba_d_head": 16,
    "mamba_d_ssm": 16,
    "rope_dim": 16,
    "qk_head_dim": 16,
    "time_step_rank": 16,
    "hidden_size_per_layer_input": 16,
    "mamba_headdim": 16,
    "o_lora_rank": 16,
    "vocab_size": VOCAB,
    "vocab_size_per_layer_input": VOCAB,
    "max_position_embeddings": 512,
    "n_positions": 512,
    "max_seq_len": 512,
    "max_seq_length": 512,
    "n_ctx": 512,
    "max_length": 512,
    "n_group": 1,
    "topk_group": 1,
    "num_nextn_predict_layers": 1,
}
TOKENS: dict[str, Any] = {
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
    "initializer_range": 0.15,
    "init_std": 0.15,
}
_LAST_ATTENDS = ["linear_attention"] * 3 + ["full_attention"]
_MAMBA = {"mamba_expand": 2, "mamba_n_heads": 4, "mamba_d_head": 16}
_EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2}
_SHARED_KEYS = {
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
}
ODD: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_types": _LAST_ATTENDS, "num_local_experts": 4, "topk_group": 1},
    "bamba": _MAMBA | {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 32},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8}},
    "deepseek_v2": _EXPERTS,
    "dots1": _EXPERTS | {"n_shared_experts": 1},
    "dots3_note_audio_encoder": {"adapter_input_size": 32, "adapter_out_dim": 32},
    "dots3_note_vision_encoder": {
        "pyramid_num_routed": [-1] * LAYERS,
        "adapter_in_dim": 32,
        "adapter_out_dim": 32,
    },
    "falcon_h1": _MAMBA | {"mamba_d_ssm": 64},
    "gemma3n_text": _SHARED_KEYS | {"intermediate_size": 64},
    "gemma4_unified_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": _MAMBA | {"layer_types": ["mamba", "mamba", "mamba", "attention"]},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {
        "layer_types": _LAST_ATTENDS,
        "linear_head_dim": 8,
        "linear_num_heads": 4,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"num_heads": 4, "head_dim": 16, "expand": 2, "n_groups": 1},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"n_groups": 2, "mamba_num_heads": 4, "mamba_head_dim": 16},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"] * 2,
        "axial_pos_shape": [16, 32],
        "axial_pos_embds_dim": [16, 16],
        "attention_head_size": 8,
    },
    "roc_bert": {
        "pronunciation_vocab_size": 8,
        "shape_vocab_size": 8,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "xlstm": {"num_heads": 4, "num_blocks": LAYERS},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "n_mamba_heads": 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
    },
    "zaya": {"num_experts_per_tok": 1},
}
for _bert in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
    if "bert" in _bert or _bert in ("big_bird", "data2vec-text", "electra", "ernie", "xmod"):
        ODD[_bert] = ODD.get(_bert, {}) | {"is_decoder": True}
ODD["roformer"] = ODD["camembert"] = {"is_decoder": True}
ODD["qwen4_exp_text"] = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
    "hc_lowrank": 8,
}


def registered() -> list[str]:
    """Return the model types of all causal architectures that transformers registers."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the fields of a configuration with each size made small."""
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            found[name] = small(value) | {"model_type": value.model_type}
        elif name in SIZES and isinstance(value, int):
            found[name] = SIZES[name]
        elif name in TOKENS:
            found[name] = TOKENS[name]
    if "kv_lora_rank" in vars(config):  # each head has keys of its own
        found["num_key_value_heads"] = found["num_attention_heads"]
    if "num_kv_shared_layers" in vars(config) and config.num_kv_shared_layers >= LAYERS:
        found["num_kv_shared_layers"] = 0
    return found | ODD.get(config.model_type, {})


def tiny_config(kind: str) -> PreTrainedConfig:
    """Return the small configuration of a model type."""
    return AutoConfig.for_model(kind, **small(AutoConfig.for_model(kind)))


def tiny_family(kind: str, seed: int = 0) -> PreTrainedModel:
    """Return a model of an architecture on the CPU, float32, in evaluation mode.

    Its logits spread by 2.5 where its head is its own, so that its greedy texts are lively.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(tiny_config(kind), dtype=torch.float32).eval()
        head, inputs = model.get_output_embeddings(), model.get_input_embeddings()
        if head is not None and head.weight is not getattr(inputs, "weight", None):
            with contextlib.suppress(Exception):  # a model that cannot run is refused later
                spread = model(input_ids=torch.randint(2, VOCAB, (4, 8))).logits.std()
                head.weight *= 2.5 / spread
    return cast(PreTrainedModel, model)
