"""A LoRA adapter on the bundled weights as PEFT writes it, and the same model with the adapter merged in."""

from __future__ import annotations

from pathlib import Path

from promptlab import model
from promptlab.backends.tiny import Tiny
from promptlab.tiny.checkpoint import BUNDLED


def written(folder: Path) -> Tiny:
    """Writes a random adapter of rank 4 into `folder / "adapter"`; the bundled engine with it merged."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32)
    targets = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
    adapted = get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:  # zero at first, when an adapter changes nothing
                weight.normal_(0, 0.1)
    adapted.save_pretrained(folder / "adapter")
    adapted.merge_and_unload().save_pretrained(folder / "merged")
    AutoTokenizer.from_pretrained(BUNDLED).save_pretrained(folder / "merged")
    merged = model(f"tiny:{folder / 'merged'}")
    assert isinstance(merged, Tiny)
    return merged
