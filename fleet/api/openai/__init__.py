"""OpenAI's `/v1/files` and `/v1/batches`, served here and not by a node."""
