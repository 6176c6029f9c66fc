"""The ladder of `promptlab.tiny` on any checkpoint of Hugging Face's: SFT, LoRA, DPO, rewards and RLHF by TRL and PEFT.

The functions are called as those of `promptlab.tiny` are, with the same data and the same Recipe; instead of a model
and its tokenizer they take the name of a checkpoint, a folder or one on the hub, and give a trained model with its
tokenizer. They run on one device, or on several under `accelerate launch`.
"""
