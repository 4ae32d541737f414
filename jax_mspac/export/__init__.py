"""Models for others: safetensors, the Hugging Face Hub, StableHLO, ONNX, PyTorch. See docs/export.md."""
