"""Measures Lockstep against PyTorch on the same machine; standard library only, PyTorch runs in processes of its own."""
