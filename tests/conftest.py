"""Settings of every test: eight simulated CPU devices, no accelerator for TensorFlow."""

import os

# Before jax is imported anywhere. Eight devices let sharding be tested on one machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
