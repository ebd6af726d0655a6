"""The control plane's behaviour."""
