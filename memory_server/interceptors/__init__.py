"""What happens around every call: errors become statuses, and calls are counted, timed and logged."""
