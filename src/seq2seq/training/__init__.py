"""The training loop: steps, automatic batch size, failures and reports."""
