"""Every config key with its meaning and range, stored configs, and the published recipes."""
